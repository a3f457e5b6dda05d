/* The access rules, compiled: which of them decides about a target. Immutable, any thread.
 *
 * Every selector is looked up once and gives the set of the rules that it lets through; the first
 * rule in the intersection of the sets decides. The cost hardly grows with the number of rules, and
 * a name of many labels costs no more than its labels.
 */
#pragma once

#include "proto/wire/addr.h"
#include "proto/wire/err.h"
#include "proto/wire/rule.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_RULES_MAX 4096

struct mt_rules;

/* Copies `rules`; one reference, the caller's. MT_E_LIMIT, -ENOMEM. */
int mt_rules_new(struct mt_rules **out, const struct mt_rule *rules, size_t count) MT_MUST_CHECK;
/* Before others see them: traffic that runs when these rules come into force may stay, whatever
 * they say. */
void mt_rules_set_keep(struct mt_rules *rules);
struct mt_rules *mt_rules_ref(
	struct mt_rules *rules); /* NULL is allowed here and below: no rules */
void mt_rules_unref(struct mt_rules *rules);
const struct mt_rule *mt_rules_list(const struct mt_rules *rules, size_t *count);
bool mt_rules_keep(const struct mt_rules *rules);

struct mt_rules_query {
	const char *client; /* empty without identity */
	enum mt_rule_protocol protocol;
	const char *name; /* as it was asked for; NULL for an address */
	size_t name_len;
	uint16_t port;
	/* NULL: not known yet. Then `rule` of the verdict is set for a denial that no address can
	 * change, and for nothing else. */
	const struct mt_addr *addr;
	/* Not 0 for an address that is closed unless a rule opens it: an allowing rule decides only
	 * if it names a network of at least this prefix, which holds the address. */
	unsigned guard_bits;
};

#define MT_RULES_NONE (-1)

struct mt_rules_verdict {
	int rule; /* the one that decides, from 0, or MT_RULES_NONE */
	bool allow;
	int passed_over; /* the first allowing rule that was too wide to decide, or MT_RULES_NONE */
};

void mt_rules_decide(const struct mt_rules *rules, const struct mt_rules_query *query,
	struct mt_rules_verdict *out);

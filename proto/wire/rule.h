/* Access rules as text: which targets a client may reach.
 *
 *   allow|deny [client NAME] [tcp|udp] [NAME|*.DOMAIN|*] [net NETWORK] [port N[-M]]
 *
 *   deny client guest tcp *.example.com port 25
 *   allow net 10.1.0.0/16 port 22-443
 *
 * A rule matches a target when all its selectors do; one without selectors matches everything.
 */
#pragma once

#include "proto/wire/err.h"
#include "proto/wire/net.h"
#include "proto/wire/profile.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MT_RULE_TEXT_MAX 512 /* the longest rule needs about 420 */
#define MT_RULE_HOST_MAX 255 /* a pattern, "*." and a name of 253 characters */

enum mt_rule_protocol {
	MT_RULE_ANY,
	MT_RULE_TCP,
	MT_RULE_UDP,
};

struct mt_rule {
	bool allow;
	enum mt_rule_protocol protocol;
	char client[MT_NAME_MAX + 1]; /* empty: any, and those without identity */
	/* Empty: any target. "*": any that was asked for by name. "*.example.com": names below
	 * example.com, at any depth, without example.com itself. Lower case, no final dot. */
	char host[MT_RULE_HOST_MAX + 1];
	struct mt_net net;   /* addr.len 0: any */
	uint16_t port_first; /* 0: any */
	uint16_t port_last;
};

/* Reads a rule. Selectors stand in any order, each at most once; words are separated by blanks. A
 * name without a dot is written "host NAME", so that a forgotten "client" is noticed; "host" is
 * allowed before every pattern. An address or network is taken for one with or without "net". On
 * MT_E_MALFORMED or MT_E_TOO_LONG `why` has a sentence that names the word.
 */
int mt_rule_parse(struct mt_rule *out, const char *text, char *why, size_t why_cap) MT_MUST_CHECK;
bool mt_rule_equal(const struct mt_rule *a, const struct mt_rule *b);
/* Writes the one canonical form: mt_rule_parse(mt_rule_format(x)) = x. Returns `buf`; `cap` at
 * least MT_RULE_TEXT_MAX. */
const char *mt_rule_format(const struct mt_rule *rule, char *buf, size_t cap);

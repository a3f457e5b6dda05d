#include "daemon/publish.h"

#include <errno.h>
#include <stdlib.h>

struct gather {
	struct mt_rule *list;
	size_t count;
	size_t cap;
};

static int add_rule(const struct mt_rule *rule, void *user)
{
	struct gather *g = user;

	if (g->count == MT_RULES_MAX) {
		return MT_E_LIMIT;
	}
	if (g->count == g->cap) {
		size_t cap = g->cap == 0 ? 64 : g->cap * 2;
		struct mt_rule *grown = reallocarray(g->list, cap, sizeof(*grown));

		if (grown == NULL) {
			return -ENOMEM;
		}
		g->list = grown;
		g->cap = cap;
	}
	g->list[g->count++] = *rule;
	return 0;
}

static bool is_same(const struct mt_rules *rules, const struct gather *g)
{
	size_t count = 0;
	const struct mt_rule *list = mt_rules_list(rules, &count);

	if (rules == NULL || count != g->count) {
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		if (!mt_rule_equal(&list[i], &g->list[i])) {
			return false;
		}
	}
	return true;
}

int mt_publish_rules(struct mt_rules **out, struct mt_store *store, struct mt_rules *before)
{
	struct gather g = {.list = NULL};
	int rv = mt_store_rule_each(store, add_rule, &g);

	if (rv == 0 && is_same(before, &g)) {
		*out = mt_rules_ref(before);
	} else if (rv == 0) {
		rv = mt_rules_new(out, g.list, g.count);
	}
	free(g.list);
	return rv;
}

/* links: daemon/rules.c daemon/access.c daemon/snapshot.c daemon/account.c proto/wire/rule.c
 * proto/wire/net.c proto/wire/addr.c proto/wire/profile.c proto/wire/encode.c proto/wire/bytes.c
 * proto/wire/err.c proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c
 */
/* What the decision about a target costs.
 *
 *   rules [COUNT]
 *
 * COUNT rules (1,000) of every kind; a mix of names, addresses, ports and clients is judged as a
 * tunnel's target is, and so is the costliest name: 253 characters in labels of one. Prints
 * nanoseconds per decision; exit status 1 when one of them is beyond 2 microseconds.
 */
#include "daemon/access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define QUESTIONS 4096
#define ROUNDS    200
#define LIMIT_NS  2000.0

struct question {
	struct mt_access_request request;
	struct mt_addr addr;
	char name[256];
	char client[32];
};

static struct question questions[QUESTIONS];

static unsigned pick(unsigned below)
{
	return (unsigned)rand() % below;
}

static void make_rule(struct mt_rule *out, unsigned i)
{
	char text[MT_RULE_TEXT_MAX];
	char why[256];

	switch (i % 6) {
	case 0: (void)snprintf(text, sizeof(text), "deny www%u.example.com", i); break;
	case 1: (void)snprintf(text, sizeof(text), "deny *.d%u.example.org port 25", i); break;
	case 2:
		(void)snprintf(text, sizeof(text), "allow net 10.%u.%u.0/24 port %u-%u", i / 256,
			i % 256, 1 + i, 2000 + i);
		break;
	case 3: (void)snprintf(text, sizeof(text), "deny client c%u udp port %u", i, 1 + i); break;
	case 4: (void)snprintf(text, sizeof(text), "allow net 2001:db8:%x::/48", i); break;
	default:
		(void)snprintf(
			text, sizeof(text), "deny client c%u tcp net 203.0.%u.0/24", i, i % 256);
	}
	if (mt_rule_parse(out, text, why, sizeof(why)) != 0) {
		fprintf(stderr, "%s: %s\n", text, why);
		exit(1);
	}
}

static void make_question(struct question *q, unsigned rules)
{
	char text[64];

	(void)snprintf(q->client, sizeof(q->client), "c%u", pick(2 * rules));
	switch (pick(3)) {
	case 0: (void)snprintf(q->name, sizeof(q->name), "www%u.example.com", pick(rules)); break;
	case 1: (void)snprintf(q->name, sizeof(q->name), "a.d%u.example.org", pick(rules)); break;
	default: break;
	}
	switch (pick(3)) {
	case 0: (void)snprintf(text, sizeof(text), "10.0.%u.%u:0", pick(256), pick(256)); break;
	case 1: (void)snprintf(text, sizeof(text), "203.0.%u.1:0", pick(256)); break;
	default: (void)snprintf(text, sizeof(text), "[2001:db8:%x::1]:0", pick(rules)); break;
	}
	if (mt_addr_parse(&q->addr, text) != 0) {
		exit(1);
	}
	q->request = (struct mt_access_request){.client = q->client,
		.protocol = pick(2) ? MT_RULE_TCP : MT_RULE_UDP,
		.name = q->name[0] != '\0' ? q->name : NULL,
		.name_len = strlen(q->name),
		.port = (uint16_t)(1 + pick(3000))};
}

/* Prints and returns nanoseconds per decision. */
static double measure(const struct mt_snapshot *s, const char *what)
{
	struct timespec begin;
	struct timespec end;
	unsigned allowed = 0;
	double ns;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < QUESTIONS; i++) {
			allowed += mt_access_check_target(
					   s, &questions[i].request, &questions[i].addr) == 0;
		}
	}
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	ns = ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) /
	     ((double)ROUNDS * QUESTIONS);
	printf("%-24s %7.0f ns a decision, %u of %u allowed\n", what, ns, allowed / ROUNDS,
		QUESTIONS);
	return ns;
}

int main(int argc, char **argv)
{
	unsigned count = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000;
	struct mt_rule *list;
	struct mt_snapshot s = {.allow_private = true};
	double mixed;
	double longest;

	if (count < 1 || count > MT_RULES_MAX) {
		fprintf(stderr, "usage: rules [1-%d]\n", MT_RULES_MAX);
		return 2;
	}
	list = calloc(count, sizeof(*list));
	if (list == NULL) {
		return 1;
	}
	for (unsigned i = 0; i < count; i++) {
		make_rule(&list[i], i);
	}
	/* Every part of a long name must be looked up when there is a rule as long. */
	memset(list[count - 1].host, 'x', 253);
	list[count - 1].host[60] = '.';
	if (mt_rules_new(&s.rules, list, count) != 0) {
		return 1;
	}
	srand(1);
	for (unsigned i = 0; i < QUESTIONS; i++) {
		make_question(&questions[i], count);
	}
	printf("%u rules\n", count);
	mixed = measure(&s, "names, addresses, ports");
	for (unsigned i = 0; i < QUESTIONS; i++) {
		struct question *q = &questions[i];

		for (unsigned c = 0; c < 253; c++) {
			q->name[c] = c % 2 == 0 ? (char)('a' + pick(26)) : '.';
		}
		q->name[253] = '\0';
		q->request.name = q->name;
		q->request.name_len = 253;
	}
	longest = measure(&s, "longest names");
	mt_rules_unref(s.rules);
	free(list);
	return mixed <= LIMIT_NS && longest <= LIMIT_NS ? 0 : 1;
}

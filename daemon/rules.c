#include "daemon/rules.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned __int128 position;

/* The numbers from 0 on, cut where the set of matching rules changes. */
struct spans {
	size_t count;
	position *starts;
	uint64_t *sets;
};

/* Rules that name a host, by the name without "*.": an open hash table. */
struct host {
	char *text; /* NULL: an empty place */
	size_t len;
	uint64_t hash;
	uint64_t *exact; /* rules for the name itself */
	uint64_t *below; /* rules for names below it */
};

struct client {
	const char *name; /* in its rule */
	uint64_t *set;    /* with the rules for any client */
};

struct mt_rules {
	_Atomic unsigned refs;
	bool keep;
	size_t count;
	size_t words; /* of a set */
	struct mt_rule *rules;
	uint64_t *any_client;
	struct client *clients; /* sorted by name */
	size_t client_count;
	uint64_t *tcp;
	uint64_t *udp;
	uint64_t *any_host;  /* without a host */
	uint64_t *all_names; /* with host "*" */
	struct host *hosts;
	size_t host_places; /* a power of two, more than there are hosts */
	size_t host_longest;
	uint64_t host_lengths[(MT_RULE_HOST_MAX + 64) / 64]; /* a bit for each length */
	struct spans ports;
	struct spans v4;
	struct spans v6;
	uint64_t *any_net; /* what an unknown address may match: all */
};

static uint64_t *new_sets(const struct mt_rules *r, size_t count)
{
	return calloc(count * r->words, sizeof(uint64_t));
}

static void put(uint64_t *set, size_t index)
{
	set[index / 64] |= UINT64_C(1) << index % 64;
}

static bool has(const uint64_t *set, size_t index)
{
	return (set[index / 64] >> index % 64 & 1) != 0;
}

/* ---- ranges of numbers ---- */

struct range {
	size_t rule;
	position first;
	position last;
};

static int by_position(const void *a, const void *b)
{
	const position *x = a;
	const position *y = b;

	return *x < *y ? -1 : *x > *y;
}

static size_t find_span(const struct spans *s, position at)
{
	size_t low = 0;
	size_t high = s->count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (s->starts[middle] <= at) {
			low = middle;
		} else {
			high = middle;
		}
	}
	return low;
}

static int build_spans(const struct mt_rules *r, struct spans *out, const struct range *ranges,
	size_t count, position max)
{
	size_t used = 1;

	out->starts = calloc(2 * count + 1, sizeof(*out->starts));
	if (out->starts == NULL) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++) {
		out->starts[used++] = ranges[i].first;
		if (ranges[i].last < max) {
			out->starts[used++] = ranges[i].last + 1;
		}
	}
	qsort(out->starts, used, sizeof(*out->starts), by_position);
	for (size_t i = 0; i < used; i++) {
		if (out->count == 0 || out->starts[i] != out->starts[out->count - 1]) {
			out->starts[out->count++] = out->starts[i];
		}
	}
	out->sets = new_sets(r, out->count);
	if (out->sets == NULL) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++) {
		for (size_t at = find_span(out, ranges[i].first);
			at < out->count && out->starts[at] <= ranges[i].last; at++) {
			put(out->sets + at * r->words, ranges[i].rule);
		}
	}
	return 0;
}

static position number_of(const struct mt_addr *addr)
{
	position v = 0;

	if (addr->sa.sa_family == AF_INET) {
		return ntohl(addr->v4.sin_addr.s_addr);
	}
	for (size_t i = 0; i < 16; i++) {
		v = v << 8 | addr->v6.sin6_addr.s6_addr[i];
	}
	return v;
}

static int build_nets(struct mt_rules *r, struct spans *out, int family, unsigned bits)
{
	struct range *ranges = calloc(r->count, sizeof(*ranges));
	position max = bits == 128 ? ~(position)0 : ((position)1 << bits) - 1;
	size_t count = 0;
	int rv = -ENOMEM;

	if (ranges == NULL) {
		return rv;
	}
	for (size_t i = 0; i < r->count; i++) {
		const struct mt_net *net = &r->rules[i].net;

		if (net->addr.len == 0) {
			ranges[count++] = (struct range){i, 0, max};
		} else if (net->addr.sa.sa_family == family) {
			position first = number_of(&net->addr);

			/* A shift by all bits would be undefined. */
			ranges[count++] = (struct range){
				i, first, net->bits == bits ? first : first | max >> net->bits};
		}
	}
	rv = build_spans(r, out, ranges, count, max);
	free(ranges);
	return rv;
}

static int build_ports(struct mt_rules *r)
{
	struct range *ranges = calloc(r->count, sizeof(*ranges));
	int rv = -ENOMEM;

	if (ranges == NULL) {
		return rv;
	}
	for (size_t i = 0; i < r->count; i++) {
		const struct mt_rule *rule = &r->rules[i];

		ranges[i] = (struct range){
			i, rule->port_first, rule->port_first == 0 ? UINT16_MAX : rule->port_last};
	}
	rv = build_spans(r, &r->ports, ranges, r->count, UINT16_MAX);
	free(ranges);
	return rv;
}

/* ---- hosts ---- */

#define HASH_START UINT64_C(0xcbf29ce484222325)

/* From the last character to the first: each suffix of a name costs one step more. */
static uint64_t hash_step(uint64_t hash, char c)
{
	return (hash ^ (uint8_t)c) * UINT64_C(0x100000001b3);
}

static uint64_t hash_host(const char *text, size_t len)
{
	uint64_t hash = HASH_START;

	while (len > 0) {
		hash = hash_step(hash, text[--len]);
	}
	return hash;
}

/* The place of a host, or the empty one where it belongs. */
static struct host *find_host(const struct mt_rules *r, const char *text, size_t len, uint64_t hash)
{
	size_t at = (hash ^ hash >> 32) & (r->host_places - 1);

	while (r->hosts[at].text != NULL && (r->hosts[at].hash != hash || r->hosts[at].len != len ||
						    memcmp(r->hosts[at].text, text, len) != 0)) {
		at = (at + 1) & (r->host_places - 1);
	}
	return &r->hosts[at];
}

static int add_host(struct mt_rules *r, size_t rule, char *text)
{
	bool wild = text[0] == '*';
	char *name = wild ? text + 2 : text;
	size_t len = strlen(name);
	uint64_t hash = hash_host(name, len);
	struct host *h = find_host(r, name, len, hash);

	if (h->text == NULL) {
		uint64_t *sets = new_sets(r, 2);

		if (sets == NULL) {
			return -ENOMEM;
		}
		*h = (struct host){name, len, hash, sets, sets + r->words};
		r->host_longest = len > r->host_longest ? len : r->host_longest;
		put(r->host_lengths, len);
	}
	put(wild ? h->below : h->exact, rule);
	return 0;
}

static int build_hosts(struct mt_rules *r)
{
	size_t named = 0;
	int rv = 0;

	for (size_t i = 0; i < r->count; i++) {
		named += r->rules[i].host[0] != '\0';
	}
	r->host_places = 16;
	while (r->host_places < 2 * named) {
		r->host_places *= 2;
	}
	r->hosts = calloc(r->host_places, sizeof(*r->hosts));
	if (r->hosts == NULL) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < r->count && rv == 0; i++) {
		char *host = r->rules[i].host;

		if (host[0] == '\0') {
			put(r->any_host, i);
		} else if (strcmp(host, "*") == 0) {
			put(r->all_names, i);
		} else {
			rv = add_host(r, i, host);
		}
	}
	return rv;
}

/* ---- clients ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct client *)a)->name, ((const struct client *)b)->name);
}

static struct client *find_client(const struct mt_rules *r, const char *name)
{
	const struct client key = {.name = name};

	return r->client_count > 0
		       ? bsearch(&key, r->clients, r->client_count, sizeof(key), by_name)
		       : NULL;
}

static int build_clients(struct mt_rules *r)
{
	size_t named = 0;
	size_t kept = 0;

	r->clients = calloc(r->count, sizeof(*r->clients));
	if (r->clients == NULL) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < r->count; i++) {
		if (r->rules[i].client[0] == '\0') {
			put(r->any_client, i);
		} else {
			r->clients[named++].name = r->rules[i].client;
		}
	}
	if (named > 0) {
		qsort(r->clients, named, sizeof(*r->clients), by_name);
	}
	for (size_t i = 0; i < named; i++) {
		if (kept == 0 || strcmp(r->clients[kept - 1].name, r->clients[i].name) != 0) {
			r->clients[kept++].name = r->clients[i].name;
		}
	}
	r->client_count = kept;
	for (size_t i = 0; i < kept; i++) {
		r->clients[i].set = new_sets(r, 1);
		if (r->clients[i].set == NULL) {
			return -ENOMEM;
		}
		memcpy(r->clients[i].set, r->any_client, r->words * sizeof(uint64_t));
	}
	for (size_t i = 0; i < r->count; i++) {
		if (r->rules[i].client[0] != '\0') {
			put(find_client(r, r->rules[i].client)->set, i);
		}
	}
	return 0;
}

/* ---- life ---- */

static int build(struct mt_rules *r)
{
	uint64_t **const sets[] = {
		&r->any_client, &r->tcp, &r->udp, &r->any_host, &r->all_names, &r->any_net};
	int rv;

	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		*sets[i] = new_sets(r, 1);
		if (*sets[i] == NULL) {
			return -ENOMEM;
		}
	}
	for (size_t i = 0; i < r->count; i++) {
		if (r->rules[i].protocol != MT_RULE_UDP) {
			put(r->tcp, i);
		}
		if (r->rules[i].protocol != MT_RULE_TCP) {
			put(r->udp, i);
		}
		put(r->any_net, i);
	}
	rv = build_clients(r);
	if (rv == 0) {
		rv = build_hosts(r);
	}
	if (rv == 0) {
		rv = build_ports(r);
	}
	if (rv == 0) {
		rv = build_nets(r, &r->v4, AF_INET, 32);
	}
	return rv == 0 ? build_nets(r, &r->v6, AF_INET6, 128) : rv;
}

int mt_rules_new(struct mt_rules **out, const struct mt_rule *rules, size_t count)
{
	struct mt_rules *r;
	int rv = -ENOMEM;

	if (count > MT_RULES_MAX) {
		return MT_E_LIMIT;
	}
	r = calloc(1, sizeof(*r));
	if (r == NULL) {
		return rv;
	}
	atomic_init(&r->refs, 1);
	r->count = count;
	r->words = (count + 63) / 64;
	if (count > 0) {
		r->rules = calloc(count, sizeof(*rules));
		if (r->rules == NULL) {
			goto out;
		}
		memcpy(r->rules, rules, count * sizeof(*rules));
		rv = build(r);
		if (rv != 0) {
			goto out;
		}
	}
	*out = r;
	r = NULL;
	rv = 0;
out:
	mt_rules_unref(r);
	return rv;
}

void mt_rules_set_keep(struct mt_rules *r)
{
	r->keep = true;
}

struct mt_rules *mt_rules_ref(struct mt_rules *r)
{
	if (r != NULL) {
		(void)atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
	}
	return r;
}

static void free_spans(struct spans *s)
{
	free(s->starts);
	free(s->sets);
}

void mt_rules_unref(struct mt_rules *r)
{
	if (r == NULL || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1) {
		return;
	}
	for (size_t i = 0; i < r->client_count; i++) {
		free(r->clients[i].set);
	}
	for (size_t i = 0; r->hosts != NULL && i < r->host_places; i++) {
		free(r->hosts[i].exact); /* one block with `below` */
	}
	free_spans(&r->ports);
	free_spans(&r->v4);
	free_spans(&r->v6);
	free(r->hosts);
	free(r->clients);
	free(r->any_client);
	free(r->tcp);
	free(r->udp);
	free(r->any_host);
	free(r->all_names);
	free(r->any_net);
	free(r->rules);
	free(r);
}

const struct mt_rule *mt_rules_list(const struct mt_rules *r, size_t *count)
{
	*count = r != NULL ? r->count : 0;
	return r != NULL ? r->rules : NULL;
}

bool mt_rules_keep(const struct mt_rules *r)
{
	return r != NULL && r->keep;
}

/* ---- the decision ---- */

#define LABELS_MAX 128 /* a name of 253 characters has at most 127 */

/* The sets whose union lets a rule through as far as the host goes. */
struct host_sets {
	const uint64_t *sets[LABELS_MAX + 2];
	size_t count;
};

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static void find_host_sets(
	const struct mt_rules *r, const char *name, size_t len, struct host_sets *out)
{
	char text[MT_RULE_HOST_MAX + 1];
	uint64_t hash = HASH_START;
	size_t size = 0;

	out->sets[out->count++] = r->any_host;
	if (name == NULL || len == 0) {
		return;
	}
	out->sets[out->count++] = r->all_names;
	if (name[len - 1] == '.') {
		len--;
	}
	if (len > MT_RULE_HOST_MAX) {
		return; /* no name that resolves */
	}
	for (size_t at = len; at > 0 && size < r->host_longest; size++) {
		const struct host *h;

		at--;
		text[at] = lower(name[at]);
		hash = hash_step(hash, text[at]);
		if ((at > 0 && name[at - 1] != '.') || !has(r->host_lengths, len - at)) {
			continue;
		}
		h = find_host(r, text + at, len - at, hash);
		if (h->text != NULL && out->count < LABELS_MAX + 2) {
			out->sets[out->count++] = at == 0 ? h->exact : h->below;
		}
	}
}

/* A rule that is met: true when it decides. */
static bool take(const struct mt_rules *r, size_t index, const struct mt_rules_query *q,
	struct mt_rules_verdict *out)
{
	const struct mt_rule *rule = &r->rules[index];

	if (q->addr == NULL) {
		/* Only a denial that no address can change decides; an allowing rule, or one about
		 * a network that may not hold the address, leaves it open. */
		if (rule->allow) {
			return true;
		}
		if (rule->net.addr.len != 0) {
			return false;
		}
	} else if (rule->allow && q->guard_bits > 0 &&
		   (rule->net.addr.len == 0 || rule->net.bits < q->guard_bits)) {
		if (out->passed_over == MT_RULES_NONE) {
			out->passed_over = (int)index;
		}
		return false;
	}
	out->rule = (int)index;
	out->allow = rule->allow;
	return true;
}

void mt_rules_decide(
	const struct mt_rules *r, const struct mt_rules_query *q, struct mt_rules_verdict *out)
{
	struct host_sets hosts = {.count = 0};
	const struct client *client;
	const uint64_t *clients;
	const uint64_t *protocols;
	const uint64_t *ports;
	const uint64_t *nets;

	*out = (struct mt_rules_verdict){.rule = MT_RULES_NONE, .passed_over = MT_RULES_NONE};
	if (r == NULL || r->count == 0) {
		return;
	}
	client = find_client(r, q->client);
	clients = client != NULL ? client->set : r->any_client;
	protocols = q->protocol == MT_RULE_UDP ? r->udp : r->tcp;
	ports = r->ports.sets + find_span(&r->ports, q->port) * r->words;
	nets = r->any_net;
	if (q->addr != NULL) {
		const struct spans *s = q->addr->sa.sa_family == AF_INET ? &r->v4 : &r->v6;

		nets = s->sets + find_span(s, number_of(q->addr)) * r->words;
	}
	find_host_sets(r, q->name, q->name_len, &hosts);
	for (size_t w = 0; w < r->words; w++) {
		uint64_t met = clients[w] & protocols[w] & ports[w] & nets[w];
		uint64_t by_host = 0;

		for (size_t i = 0; met != 0 && i < hosts.count; i++) {
			by_host |= hosts.sets[i][w];
		}
		for (met &= by_host; met != 0; met &= met - 1) {
			if (take(r, w * 64 + (size_t)__builtin_ctzll(met), q, out)) {
				return;
			}
		}
	}
}

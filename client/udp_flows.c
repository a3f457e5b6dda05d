#include "client/udp_flows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

#define BUCKETS 1024

struct flow {
	LIST_ENTRY(flow) of_bucket;
	TAILQ_ENTRY(flow) by_use;
	void *owner;
	uint64_t used_ms;
	uint16_t port;
	uint8_t host_len;
	char host[];
};

LIST_HEAD(bucket, flow);
TAILQ_HEAD(flow_list, flow);

struct mt_udp_flows {
	struct bucket buckets[BUCKETS];
	struct flow_list by_use; /* the least recently used first */
	size_t count;
	uint64_t seed; /* the keys come from applications: no fixed collisions */
};

struct mt_udp_flows *mt_udp_flows_new(void)
{
	struct mt_udp_flows *flows = calloc(1, sizeof(*flows));

	if (flows == NULL) {
		return NULL;
	}
	for (size_t i = 0; i < BUCKETS; i++) {
		LIST_INIT(&flows->buckets[i]);
	}
	TAILQ_INIT(&flows->by_use);
	if (getrandom(&flows->seed, sizeof(flows->seed), GRND_NONBLOCK) < 0) {
		flows->seed = (uintptr_t)flows; /* only chance is needed, not secrecy */
	}
	return flows;
}

static void drop(struct mt_udp_flows *flows, struct flow *f)
{
	LIST_REMOVE(f, of_bucket);
	TAILQ_REMOVE(&flows->by_use, f, by_use);
	flows->count--;
	free(f);
}

void mt_udp_flows_free(struct mt_udp_flows *flows)
{
	if (flows == NULL) {
		return;
	}
	while (!TAILQ_EMPTY(&flows->by_use)) {
		drop(flows, TAILQ_FIRST(&flows->by_use));
	}
	free(flows);
}

static struct bucket *bucket_of(
	struct mt_udp_flows *flows, const char *host, size_t host_len, uint16_t port)
{
	/* FNV-1a */
	uint64_t hash = 0xcbf29ce484222325ull ^ flows->seed ^ port;

	for (size_t i = 0; i < host_len; i++) {
		hash = (hash ^ (uint8_t)host[i]) * 0x100000001b3ull;
	}
	return &flows->buckets[(hash ^ (hash >> 32)) % BUCKETS];
}

static struct flow *find(
	struct mt_udp_flows *flows, const char *host, size_t host_len, uint16_t port)
{
	struct flow *f;

	LIST_FOREACH(f, bucket_of(flows, host, host_len, port), of_bucket)
	{
		if (f->port == port && f->host_len == host_len &&
			memcmp(f->host, host, host_len) == 0) {
			return f;
		}
	}
	return NULL;
}

int mt_udp_flows_touch(struct mt_udp_flows *flows, const char *host, size_t host_len, uint16_t port,
	void *owner, uint64_t now_ms)
{
	struct flow *f;

	if (host_len == 0 || host_len > 255) {
		return MT_E_RANGE;
	}
	f = find(flows, host, host_len, port);
	if (f != NULL) {
		TAILQ_REMOVE(&flows->by_use, f, by_use);
	} else {
		f = calloc(1, sizeof(*f) + host_len);
		if (f == NULL) {
			return -ENOMEM;
		}
		if (flows->count >= MT_UDP_FLOWS_MAX) {
			drop(flows, TAILQ_FIRST(&flows->by_use));
		}
		f->port = port;
		f->host_len = (uint8_t)host_len;
		memcpy(f->host, host, host_len);
		LIST_INSERT_HEAD(bucket_of(flows, host, host_len, port), f, of_bucket);
		flows->count++;
	}
	f->owner = owner;
	f->used_ms = now_ms;
	TAILQ_INSERT_TAIL(&flows->by_use, f, by_use);
	return 0;
}

void *mt_udp_flows_find(
	struct mt_udp_flows *flows, const char *host, size_t host_len, uint16_t port)
{
	struct flow *f = find(flows, host, host_len, port);

	return f == NULL ? NULL : f->owner;
}

void mt_udp_flows_forget(struct mt_udp_flows *flows, const void *owner)
{
	struct flow *f = TAILQ_FIRST(&flows->by_use);

	while (f != NULL) {
		struct flow *next = TAILQ_NEXT(f, by_use);

		if (f->owner == owner) {
			drop(flows, f);
		}
		f = next;
	}
}

void mt_udp_flows_expire(struct mt_udp_flows *flows, uint64_t now_ms)
{
	struct flow *f;

	while ((f = TAILQ_FIRST(&flows->by_use)) != NULL &&
		now_ms - f->used_ms >= MT_UDP_FLOW_IDLE_MS) {
		drop(flows, f);
	}
}

size_t mt_udp_flows_count(const struct mt_udp_flows *flows)
{
	return flows->count;
}

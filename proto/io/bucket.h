/* A token bucket that several threads take from: so many bytes a second together, without a lock.
 * Its state is one number, the moment until which the time is spent; taking bytes moves it on by
 * what they are worth, and it never lags behind the present by more than the burst.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* At most so much of a second may pass at once after a pause. */
#define MT_BUCKET_BURST_NS 50000000u
/* The fastest rate that is told from none, in bytes a second: 100 Gbit/s. */
#define MT_BUCKET_RATE_MAX 12500000000u

/* So long somebody who got nothing is taken to be waiting still: some turns of the pacer. */
#define MT_BUCKET_HUNGER_NS 40000000u

/* All zero: no limit. Streams take pieces, and wait until one is there; datagrams pass or not at
 * the moment when they come, so they would always be first. While a stream waits, datagrams
 * therefore have half of the rate, no less and no more.
 */
struct mt_bucket {
	_Atomic uint64_t rate;             /* bytes a second; 0: no limit */
	_Atomic uint64_t spent_ns;         /* on the clock of uv_hrtime */
	_Atomic uint64_t packets_spent_ns; /* of their half */
	_Atomic uint64_t hungry_until_ns;
};

/* Any thread, at any time. */
void mt_bucket_set_rate(struct mt_bucket *bucket, uint64_t bytes_per_s);

static inline bool mt_bucket_is_limited(const struct mt_bucket *bucket)
{
	return atomic_load_explicit(&bucket->rate, memory_order_relaxed) != 0;
}

/* Takes up to `want` bytes; returns how many, 0 when fewer than a worthwhile piece are there: the
 * caller waits for them then. */
size_t mt_bucket_take(struct mt_bucket *bucket, size_t want, uint64_t now_ns);
/* Gives back what was taken and not used. */
void mt_bucket_return(struct mt_bucket *bucket, size_t bytes);
/* How much may pass now; SIZE_MAX without a limit. */
size_t mt_bucket_room(struct mt_bucket *bucket, uint64_t now_ns);
/* How many bytes of datagrams may pass now: one that begins to fit does. SIZE_MAX without a limit.
 */
size_t mt_bucket_packet_room(struct mt_bucket *bucket, uint64_t now_ns);
/* Counts datagrams that have passed: what comes later waits for them. */
void mt_bucket_packet_charge(struct mt_bucket *bucket, size_t bytes, uint64_t now_ns);

/* The buckets that hold for the same bytes, any of them NULL. */
#define MT_BUCKETS 2
struct mt_buckets {
	struct mt_bucket *of[MT_BUCKETS];
};

static inline bool mt_buckets_are_limited(const struct mt_buckets *b)
{
	return (b->of[0] != NULL && mt_bucket_is_limited(b->of[0])) ||
	       (b->of[1] != NULL && mt_bucket_is_limited(b->of[1]));
}

/* A fair share of one turn: what a few milliseconds let through, 32 KiB at least. */
size_t mt_buckets_quantum(const struct mt_buckets *b);
size_t mt_buckets_take(const struct mt_buckets *b, size_t want, uint64_t now_ns);
void mt_buckets_return(const struct mt_buckets *b, size_t bytes);
size_t mt_buckets_packet_room(const struct mt_buckets *b, uint64_t now_ns);
void mt_buckets_packet_charge(const struct mt_buckets *b, size_t bytes, uint64_t now_ns);

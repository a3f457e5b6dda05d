#include "proto/io/bucket.h"

#define NS_PER_S 1000000000ull
/* A slow bucket is not emptied byte by byte: at least this much, or half of its burst. */
#define PIECE_BYTES   2048u
#define QUANTUM_BYTES 32768u
#define QUANTA_PER_S  256u

static uint64_t load_rate(const struct mt_bucket *bucket)
{
	return atomic_load_explicit(&bucket->rate, memory_order_relaxed);
}

/* The burst in bytes, one at the very least. */
static uint64_t burst_bytes(uint64_t rate)
{
	uint64_t bytes = rate / (NS_PER_S / MT_BUCKET_BURST_NS);

	return bytes > 0 ? bytes : 1;
}

static uint64_t bytes_of(uint64_t ns, uint64_t rate)
{
	/* `ns` is a burst at most, below 2^26, and the fastest rate below 2^34. */
	return ns * rate / NS_PER_S;
}

static uint64_t ns_of(uint64_t bytes, uint64_t rate)
{
	return bytes * NS_PER_S / rate; /* `bytes` is below 2^34: one system call's */
}

/* From when on time is left; what a pause was longer than a burst is lost. */
static uint64_t start_of(uint64_t spent_ns, uint64_t now_ns)
{
	uint64_t oldest = now_ns > MT_BUCKET_BURST_NS ? now_ns - MT_BUCKET_BURST_NS : 0;

	return spent_ns > oldest ? spent_ns : oldest;
}

void mt_bucket_set_rate(struct mt_bucket *bucket, uint64_t bytes_per_s)
{
	if (bytes_per_s > MT_BUCKET_RATE_MAX) {
		bytes_per_s = MT_BUCKET_RATE_MAX;
	}
	if (load_rate(bucket) != bytes_per_s) {
		/* A debt at the old rate is no debt at the new one. */
		atomic_store_explicit(&bucket->spent_ns, 0, memory_order_relaxed);
		atomic_store_explicit(&bucket->packets_spent_ns, 0, memory_order_relaxed);
		atomic_store_explicit(&bucket->rate, bytes_per_s, memory_order_relaxed);
	}
}

size_t mt_bucket_take(struct mt_bucket *bucket, size_t want, uint64_t now_ns)
{
	uint64_t rate = load_rate(bucket);
	uint64_t spent = atomic_load_explicit(&bucket->spent_ns, memory_order_relaxed);
	uint64_t piece = burst_bytes(rate) / 2;
	uint64_t start;
	uint64_t there;

	if (rate == 0) {
		return want;
	}
	piece = piece < PIECE_BYTES ? piece : PIECE_BYTES;
	piece = piece < want ? piece : want;
	do {
		start = start_of(spent, now_ns);
		there = start < now_ns ? bytes_of(now_ns - start, rate) : 0;
		if (there == 0 || there < piece) {
			atomic_store_explicit(&bucket->hungry_until_ns,
				now_ns + MT_BUCKET_HUNGER_NS, memory_order_relaxed);
			return 0;
		}
		there = there < want ? there : want;
	} while (!atomic_compare_exchange_weak_explicit(&bucket->spent_ns, &spent,
		start + ns_of(there, rate), memory_order_relaxed, memory_order_relaxed));
	return (size_t)there;
}

void mt_bucket_return(struct mt_bucket *bucket, size_t bytes)
{
	uint64_t rate = load_rate(bucket);
	uint64_t spent = atomic_load_explicit(&bucket->spent_ns, memory_order_relaxed);
	uint64_t back;

	if (rate == 0 || bytes == 0) {
		return;
	}
	back = ns_of(bytes, rate);
	while (!atomic_compare_exchange_weak_explicit(&bucket->spent_ns, &spent,
		spent > back ? spent - back : 0, memory_order_relaxed, memory_order_relaxed)) {
	}
}

static size_t room(const _Atomic uint64_t *spent_ns, uint64_t rate, uint64_t now_ns)
{
	uint64_t start = start_of(atomic_load_explicit(spent_ns, memory_order_relaxed), now_ns);

	return start < now_ns ? (size_t)bytes_of(now_ns - start, rate) : 0;
}

size_t mt_bucket_room(struct mt_bucket *bucket, uint64_t now_ns)
{
	uint64_t rate = load_rate(bucket);

	return rate == 0 ? SIZE_MAX : room(&bucket->spent_ns, rate, now_ns);
}

static bool is_hungry(const struct mt_bucket *bucket, uint64_t now_ns)
{
	return now_ns < atomic_load_explicit(&bucket->hungry_until_ns, memory_order_relaxed);
}

/* Half of the rate, a byte at least. */
static uint64_t packet_rate(uint64_t rate)
{
	return rate / 2 + 1;
}

size_t mt_bucket_packet_room(struct mt_bucket *bucket, uint64_t now_ns)
{
	uint64_t rate = load_rate(bucket);

	if (rate == 0) {
		return SIZE_MAX;
	}
	return is_hungry(bucket, now_ns)
		       ? room(&bucket->packets_spent_ns, packet_rate(rate), now_ns)
		       : room(&bucket->spent_ns, rate, now_ns);
}

/* What `most_ns` from now on is spent is not held against anybody. */
static void charge(_Atomic uint64_t *spent_ns, uint64_t bytes, uint64_t rate, uint64_t now_ns,
	uint64_t most_ns)
{
	uint64_t spent = atomic_load_explicit(spent_ns, memory_order_relaxed);
	uint64_t next;

	do {
		next = start_of(spent, now_ns) + ns_of(bytes, rate);
		if (next > now_ns && next - now_ns > most_ns) {
			next = spent > now_ns + most_ns ? spent : now_ns + most_ns;
		}
	} while (!atomic_compare_exchange_weak_explicit(
		spent_ns, &spent, next, memory_order_relaxed, memory_order_relaxed));
}

void mt_bucket_packet_charge(struct mt_bucket *bucket, size_t bytes, uint64_t now_ns)
{
	uint64_t rate = load_rate(bucket);
	uint64_t piece_ns;

	if (rate == 0 || bytes == 0) {
		return;
	}
	charge(&bucket->spent_ns, bytes, rate, now_ns, UINT64_MAX);
	/* Datagrams that had all of the rate to themselves owe nothing but the last one when a
	 * stream begins to wait. */
	piece_ns = ns_of(bytes, packet_rate(rate));
	charge(&bucket->packets_spent_ns, bytes, packet_rate(rate), now_ns,
		is_hungry(bucket, now_ns) ? UINT64_MAX : piece_ns);
}

/* ---- several for the same bytes ---- */

size_t mt_buckets_quantum(const struct mt_buckets *b)
{
	uint64_t least = UINT64_MAX;

	for (size_t i = 0; i < MT_BUCKETS; i++) {
		uint64_t rate = b->of[i] != NULL ? load_rate(b->of[i]) : 0;

		if (rate != 0 && rate < least) {
			least = rate;
		}
	}
	least /= QUANTA_PER_S;
	return least > QUANTUM_BYTES ? (size_t)least : QUANTUM_BYTES;
}

size_t mt_buckets_take(const struct mt_buckets *b, size_t want, uint64_t now_ns)
{
	size_t granted[MT_BUCKETS];
	size_t least = want;

	for (size_t i = 0; i < MT_BUCKETS; i++) {
		granted[i] = b->of[i] != NULL ? mt_bucket_take(b->of[i], least, now_ns) : least;
		least = granted[i];
	}
	for (size_t i = 0; i < MT_BUCKETS; i++) {
		if (b->of[i] != NULL && granted[i] > least) {
			mt_bucket_return(b->of[i], granted[i] - least);
		}
	}
	return least;
}

void mt_buckets_return(const struct mt_buckets *b, size_t bytes)
{
	for (size_t i = 0; i < MT_BUCKETS; i++) {
		if (b->of[i] != NULL) {
			mt_bucket_return(b->of[i], bytes);
		}
	}
}

size_t mt_buckets_packet_room(const struct mt_buckets *b, uint64_t now_ns)
{
	size_t least = SIZE_MAX;

	for (size_t i = 0; i < MT_BUCKETS; i++) {
		size_t there =
			b->of[i] != NULL ? mt_bucket_packet_room(b->of[i], now_ns) : SIZE_MAX;

		least = there < least ? there : least;
	}
	return least;
}

void mt_buckets_packet_charge(const struct mt_buckets *b, size_t bytes, uint64_t now_ns)
{
	for (size_t i = 0; i < MT_BUCKETS; i++) {
		if (b->of[i] != NULL) {
			mt_bucket_packet_charge(b->of[i], bytes, now_ns);
		}
	}
}

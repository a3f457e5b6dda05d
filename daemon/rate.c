#include "daemon/rate.h"

struct mt_rate *mt_rate_new(struct mt_mem *mem)
{
	struct mt_rate *rate = mt_mem_calloc(mem, sizeof(*rate));

	if (rate != NULL) {
		rate->mem = mem;
		rate->refs = 1;
	}
	return rate;
}

struct mt_rate *mt_rate_ref(struct mt_rate *rate)
{
	rate->refs++;
	return rate;
}

void mt_rate_unref(struct mt_rate *rate)
{
	if (rate != NULL && --rate->refs == 0) {
		mt_mem_release(rate->mem, rate);
	}
}

void mt_rate_set(struct mt_rate *rate, int64_t bits_per_s)
{
	uint64_t bytes = ((uint64_t)bits_per_s + 7) / 8;

	mt_bucket_set_rate(&rate->from_client, bytes);
	mt_bucket_set_rate(&rate->to_client, bytes);
}

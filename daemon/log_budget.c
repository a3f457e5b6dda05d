#include "daemon/log_budget.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

/* As the log itself, the budgets are of the whole process. */
static struct {
	_Atomic(const char *) kind;
	_Atomic uint64_t spent; /* a second (high 32 bits) and the lines in it */
	_Atomic uint32_t left_out;
	_Atomic uint32_t since; /* the second when the first was left out */
} slots[MT_LOG_KINDS_MAX];

static _Atomic uint32_t unreported; /* slots with left_out > 0 */

static size_t find(const char *kind)
{
	for (size_t i = 0; i < MT_LOG_KINDS_MAX - 1; i++) {
		const char *here = atomic_load_explicit(&slots[i].kind, memory_order_acquire);

		if (here == NULL && atomic_compare_exchange_strong_explicit(&slots[i].kind, &here,
					    kind, memory_order_acq_rel, memory_order_acquire)) {
			return i;
		}
		if (strcmp(here, kind) == 0) {
			return i;
		}
	}
	atomic_store_explicit(&slots[MT_LOG_KINDS_MAX - 1].kind, "other", memory_order_release);
	return MT_LOG_KINDS_MAX - 1;
}

bool mt_log_budget_take(const char *kind, uint32_t second, uint32_t per_second)
{
	const size_t i = find(kind);
	uint64_t old = atomic_load_explicit(&slots[i].spent, memory_order_relaxed);
	uint64_t new;

	do {
		if ((uint32_t)(old >> 32) != second) {
			new = ((uint64_t)second << 32) | 1;
		} else if ((uint32_t)old >= per_second) {
			if (atomic_fetch_add_explicit(
				    &slots[i].left_out, 1, memory_order_relaxed) == 0) {
				atomic_store_explicit(
					&slots[i].since, second, memory_order_relaxed);
				atomic_fetch_add_explicit(&unreported, 1, memory_order_relaxed);
			}
			return false;
		} else {
			new = old + 1;
		}
	} while (!atomic_compare_exchange_weak_explicit(
		&slots[i].spent, &old, new, memory_order_relaxed, memory_order_relaxed));
	return true;
}

bool mt_log_budget_has_report(void)
{
	return atomic_load_explicit(&unreported, memory_order_relaxed) != 0;
}

void mt_log_budget_report(
	uint32_t second, void (*tell)(const char *kind, uint32_t lines, uint32_t seconds))
{
	for (size_t i = 0; i < MT_LOG_KINDS_MAX && mt_log_budget_has_report(); i++) {
		uint32_t since = atomic_load_explicit(&slots[i].since, memory_order_relaxed);
		uint32_t lines;

		if (since == second ||
			atomic_load_explicit(&slots[i].left_out, memory_order_relaxed) == 0) {
			continue;
		}
		lines = atomic_exchange_explicit(&slots[i].left_out, 0, memory_order_relaxed);
		atomic_fetch_sub_explicit(&unreported, 1, memory_order_relaxed);
		tell(atomic_load_explicit(&slots[i].kind, memory_order_acquire), lines,
			second - since);
	}
}

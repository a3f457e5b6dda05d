#include "daemon/account.h"

#include <stdlib.h>
#include <time.h>

struct mt_account *mt_account_new(void)
{
	struct mt_account *a = calloc(1, sizeof(*a));

	if (a == NULL) {
		return NULL;
	}
	if (pthread_mutex_init(&a->lock, NULL) != 0) {
		free(a);
		return NULL;
	}
	atomic_init(&a->refs, 1);
	atomic_init(&a->quota_stop, UINT64_MAX);
	return a;
}

struct mt_account *mt_account_ref(struct mt_account *account)
{
	(void)atomic_fetch_add_explicit(&account->refs, 1, memory_order_relaxed);
	return account;
}

void mt_account_unref(struct mt_account *account)
{
	if (account == NULL ||
		atomic_fetch_sub_explicit(&account->refs, 1, memory_order_acq_rel) != 1) {
		return;
	}
	(void)pthread_mutex_destroy(&account->lock); /* nobody is left to hold it */
	free(account);
}

static void see(struct mt_account *account)
{
	atomic_store_explicit(&account->last_seen, (int64_t)time(NULL), memory_order_relaxed);
}

void mt_account_count(struct mt_account *account, uint64_t received, uint64_t sent)
{
	if (received > 0) {
		(void)atomic_fetch_add_explicit(
			&account->bytes_received, received, memory_order_relaxed);
	}
	if (sent > 0) {
		(void)atomic_fetch_add_explicit(&account->bytes_sent, sent, memory_order_relaxed);
	}
	if (received > 0 || sent > 0) {
		see(account);
	}
}

bool mt_account_has_quota(const struct mt_account *account)
{
	return atomic_load_explicit(&account->quota_stop, memory_order_relaxed) != UINT64_MAX;
}

bool mt_account_is_exhausted(const struct mt_account *account)
{
	uint64_t used = atomic_load_explicit(&account->bytes_received, memory_order_relaxed) +
			atomic_load_explicit(&account->bytes_sent, memory_order_relaxed);

	return used >= atomic_load_explicit(&account->quota_stop, memory_order_relaxed);
}

bool mt_account_enter(struct mt_account *account, const struct mt_addr *from)
{
	uint32_t now = atomic_load_explicit(&account->connections, memory_order_relaxed);
	uint32_t most;

	do {
		most = atomic_load_explicit(&account->max_connections, memory_order_relaxed);
		if (most != 0 && now >= most) {
			return false;
		}
	} while (!atomic_compare_exchange_weak_explicit(
		&account->connections, &now, now + 1, memory_order_relaxed, memory_order_relaxed));
	/* Fails for no mutex of this kind. */
	(void)pthread_mutex_lock(&account->lock);
	account->last_address = *from;
	(void)pthread_mutex_unlock(&account->lock);
	see(account);
	return true;
}

void mt_account_leave(struct mt_account *account)
{
	(void)atomic_fetch_sub_explicit(&account->connections, 1, memory_order_relaxed);
	see(account);
}

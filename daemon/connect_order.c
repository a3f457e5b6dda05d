#include "daemon/connect_order.h"

#include "proto/wire/err.h"

#include <errno.h>
#include <string.h>

void mt_connect_interleave(struct mt_addr *addrs, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		size_t from = i;
		struct mt_addr moved;

		while (from < count && addrs[from].sa.sa_family == addrs[i - 1].sa.sa_family) {
			from++;
		}
		if (from == i) {
			continue;
		}
		if (from == count) {
			return; /* only one family is left */
		}
		moved = addrs[from];
		memmove(&addrs[i + 1], &addrs[i], (from - i) * sizeof(*addrs));
		addrs[i] = moved;
	}
}

static int rank(int err)
{
	switch (err) {
	case 0: return 0;
	case MT_E_DENIED: return 1;
	case -EAFNOSUPPORT: return 2;
	case -ENETUNREACH:
	case -ENETDOWN:
	case -EADDRNOTAVAIL: return 4;
	case -EHOSTUNREACH:
	case -EHOSTDOWN: return 5;
	case -ETIMEDOUT:
	case MT_E_TIMEOUT: return 6;
	case -ECONNRESET: return 7;
	case -ECONNREFUSED: return 8;
	default: return 3;
	}
}

int mt_connect_better_error(int a, int b)
{
	return rank(b) > rank(a) ? b : a;
}

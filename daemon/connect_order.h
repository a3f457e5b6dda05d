/* The choices of happy eyeballs (RFC 8305), without sockets. */
#pragma once

#include "proto/wire/addr.h"

#include <stddef.h>

/* Reorders addresses in place so that the families alternate, beginning with the family of the
 * first one and keeping the order within each family (section 4, First Address Family Count 1).
 */
void mt_connect_interleave(struct mt_addr *addrs, size_t count);
/* Of two errors of attempts, the one that tells a client more: an answer of the target's host
 * before one of a network before none at all. 0 stands for "no error yet".
 */
int mt_connect_better_error(int a, int b);

/* SOCKS5 UDP associations (RFC 1928, section 7): a local UDP socket and a session of its own for
 * each.
 */
#pragma once

#include "client/socks.h"
#include "client/udp_relay.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

struct mt_udp_assoc;

/* An association for the application at the other end of the TCP connection `fd`, on the address
 * that it used; `*bound` says where it sends its datagrams to. `from` is the address of the
 * request: where the datagrams will come from, as far as it is not zero. MT_E_LIMIT or a negative
 * errno.
 */
int mt_udp_assoc_open(struct mt_udp_assoc **out, struct mt_udp_relay *relay, int fd,
	const struct mt_socks_target *from, struct mt_addr *bound) MT_MUST_CHECK;
void mt_udp_assoc_close(struct mt_udp_assoc *assoc); /* NULL is allowed */

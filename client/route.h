/* The UDP sockets towards the server, one per address family, and by which local address it is
 * reached now.
 */
#pragma once

#include "proto/io/driver.h"
#include "proto/wire/addr.h"
#include "proto/wire/err.h"

struct mt_route {
	struct mt_driver *driver;
	struct mt_udp_socket *v4; /* opened when first needed; the driver's */
	struct mt_udp_socket *v6;
};

void mt_route_init(struct mt_route *r, struct mt_driver *driver);
/* The path to `remote` as the routing table has it now: a negative errno such as -ENETUNREACH when
 * there is none.
 */
int mt_route_find(
	struct mt_route *r, const struct mt_addr *remote, struct mt_path *out) MT_MUST_CHECK;

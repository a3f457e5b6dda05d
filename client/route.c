#include "client/route.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void mt_route_init(struct mt_route *r, struct mt_driver *driver)
{
	*r = (struct mt_route){.driver = driver};
}

/* Connecting a UDP socket sends nothing, but makes the kernel choose a source address. */
static int probe(const struct mt_addr *remote, struct mt_addr *local)
{
	struct sockaddr_storage name = {0};
	socklen_t len = sizeof(name);
	int fd = socket(remote->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err = 0;

	if (fd < 0) {
		return -errno;
	}
	if (connect(fd, &remote->sa, remote->len) < 0 ||
		getsockname(fd, (struct sockaddr *)&name, &len) < 0) {
		err = -errno;
	}
	(void)close(fd); /* nothing was sent */
	return err < 0 ? err : mt_addr_from_sockaddr(local, (struct sockaddr *)&name, len);
}

static int socket_for(struct mt_route *r, sa_family_t family, struct mt_udp_socket **out)
{
	struct mt_udp_socket **slot = family == AF_INET6 ? &r->v6 : &r->v4;
	struct mt_udp_options options = {0};
	struct mt_addr any;
	int err;

	if (*slot == NULL) {
		err = mt_addr_parse(&any, family == AF_INET6 ? "[::]:0" : "0.0.0.0:0");
		if (err < 0) {
			return err;
		}
		err = mt_driver_open_socket(r->driver, &any, &options, slot);
		if (err < 0) {
			return err;
		}
	}
	*out = *slot;
	return 0;
}

int mt_route_find(struct mt_route *r, const struct mt_addr *remote, struct mt_path *out)
{
	struct mt_udp_socket *socket;
	struct mt_addr local;
	int err = probe(remote, &local);

	if (err < 0) {
		return err;
	}
	err = socket_for(r, remote->sa.sa_family, &socket);
	if (err < 0) {
		return err;
	}
	mt_addr_set_port(&local, mt_addr_port(&socket->local));
	*out = (struct mt_path){.local = local, .remote = *remote, .socket = socket};
	return 0;
}

#include "client/resolve.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct mt_resolve {
	uv_getaddrinfo_t request;
	uint16_t port;
	mt_resolved_fn on_done; /* NULL: cancelled */
	void *user;
};

int mt_addresses_of_literal(struct mt_addresses *out, const char *host, uint16_t port)
{
	enum mt_host_kind kind;
	struct mt_addr address;
	int err = mt_host_parse(&kind, &address, host, strlen(host), port);

	if (err < 0) {
		return err;
	}
	if (kind == MT_HOST_NAME) {
		return MT_E_AGAIN;
	}
	out->list[0] = address;
	out->count = 1;
	return 0;
}

static void add_address(struct mt_addresses *out, const struct addrinfo *ai, uint16_t port)
{
	struct mt_addr *slot = &out->list[out->count];

	if (out->count < MT_ADDRESSES_MAX &&
		mt_addr_from_sockaddr(slot, ai->ai_addr, ai->ai_addrlen) == 0) {
		mt_addr_set_port(slot, port);
		out->count++;
	}
}

static void add_addresses(struct mt_addresses *out, const struct addrinfo *list, uint16_t port)
{
	const struct addrinfo *first = list;
	const struct addrinfo *other = list;
	int family = list->ai_family;

	while ((first != NULL || other != NULL) && out->count < MT_ADDRESSES_MAX) {
		while (first != NULL && first->ai_family != family) {
			first = first->ai_next;
		}
		if (first != NULL) {
			add_address(out, first, port);
			first = first->ai_next;
		}
		while (other != NULL && other->ai_family == family) {
			other = other->ai_next;
		}
		if (other != NULL) {
			add_address(out, other, port);
			other = other->ai_next;
		}
	}
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
	struct mt_resolve *r = request->data;
	struct mt_addresses addresses = {.count = 0};
	mt_resolved_fn on_done = r->on_done;
	void *user = r->user;

	if (status == 0 && list != NULL) {
		add_addresses(&addresses, list, r->port);
	}
	uv_freeaddrinfo(list);
	free(r);
	if (on_done == NULL) {
		return;
	}
	if (addresses.count > 0) {
		on_done(&addresses, "", user);
	} else {
		on_done(NULL, status == 0 ? "no address" : uv_strerror(status), user);
	}
}

int mt_resolve_start(struct mt_resolve **out, uv_loop_t *loop, const char *host, uint16_t port,
	mt_resolved_fn on_done, void *user)
{
	/* One type of socket, lest each address comes once for every type. */
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM};
	struct mt_resolve *r = calloc(1, sizeof(*r));
	int err;

	if (r == NULL) {
		return -ENOMEM;
	}
	r->request.data = r;
	r->port = port;
	r->on_done = on_done;
	r->user = user;
	err = uv_getaddrinfo(loop, &r->request, on_resolved, host, NULL, &hints);
	if (err < 0) {
		free(r);
		return err;
	}
	*out = r;
	return 0;
}

void mt_resolve_cancel(struct mt_resolve *r)
{
	if (r != NULL) {
		r->on_done = NULL;
		(void)uv_cancel((uv_req_t *)&r->request); /* running already: it is ignored */
	}
}

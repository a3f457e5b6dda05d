#include "daemon/tls_listeners.h"

#include "daemon/appliance.h"
#include "daemon/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void post(struct mt_appliance *a)
{
	a->facts.tls_listener_count =
		mt_listeners_serving(&a->tls_listeners, a->facts.tls_listeners);
	a->facts.tls_problem[0] = '\0';
	mt_appliance_post_facts(a);
}

/* The addresses that QUIC will have. */
static size_t quic_addrs(
	struct mt_addr *out, const struct mt_appliance *a, const struct mt_move *quic)
{
	size_t n = 0;

	for (size_t i = 0; i < a->listeners.count && n < MT_SETTING_ADDRS_MAX; i++) {
		if (quic->prepared ? quic->keep[i]
				   : a->listeners.list[i].state == MT_LISTENER_SERVES) {
			out[n++] = a->listeners.list[i].addr;
		}
	}
	for (size_t i = 0;
		quic->prepared && i < quic->listen.addr_count && n < MT_SETTING_ADDRS_MAX; i++) {
		out[n++] = quic->listen.addrs[i];
	}
	return n;
}

int mt_tls_move_prepare(struct mt_tls_move *move, struct mt_appliance *a,
	const struct mt_settings *settings, const struct mt_move *quic, char *why, size_t why_cap,
	char *next, size_t next_cap)
{
	const struct mt_listeners *l = &a->tls_listeners;
	struct mt_addr addrs[MT_SETTING_ADDRS_MAX];
	struct mt_addr fresh[MT_SETTING_ADDRS_MAX];
	struct mt_addr own[MT_LISTENERS_MAX];
	struct mt_tls_listen_request request = {
		.addrs = fresh, .workers = a->worker_count, .own = own, .own_count = l->count};
	size_t count = 0;
	int rv = 0;

	*move = (struct mt_tls_move){.prepared = true};
	if (mt_settings_bool(settings, MT_SET_TCP_ENABLED)) {
		count = mt_settings_addrs(
			settings, MT_SET_TCP_BIND_ADDR, addrs, MT_SETTING_ADDRS_MAX);
		count = count > 0 ? count : quic_addrs(addrs, a, quic);
	}
	for (size_t i = 0; i < l->count; i++) {
		own[i] = l->list[i].addr;
	}
	for (size_t i = 0; i < count; i++) {
		size_t at = mt_listeners_find(l, &addrs[i]);

		if (at == l->count) {
			fresh[request.count++] = addrs[i];
		} else {
			move->keep[at] = true;
		}
	}
	if (l->count + request.count > MT_LISTENERS_MAX) {
		(void)snprintf(why, why_cap, "too many TCP addresses");
		rv = MT_E_LIMIT;
	}
	if (rv == 0 && request.count > 0) {
		rv = mt_tls_listen_open(&move->listen, &request, why, why_cap, next, next_cap);
	}
	if (rv == -EADDRINUSE && quic->prepared) {
		/* Whoever moves QUIC is asked, and not left without TLS unawares. */
		(void)snprintf(next, next_cap,
			"find the program that has the port (ss -tlpn), or set tcp.bind_addr with "
			"it: mytunnelctl set server.bind_addr ... tcp.bind_addr 0.0.0.0:8443");
	}
	if (rv != 0) {
		move->prepared = false;
	}
	return rv;
}

void mt_tls_move_drop(struct mt_tls_move *move)
{
	if (move->prepared) {
		mt_tls_listen_close(&move->listen);
		move->prepared = false;
	}
}

/* A move on its way to the workers. */
struct handover {
	struct mt_appliance *a;
	struct mt_tls_listen listen;
	unsigned ids[MT_SETTING_ADDRS_MAX];
	unsigned old[MT_LISTENERS_MAX];
	size_t old_count;
	atomic_int failed; /* the last error of a worker */
};

static void hand_over(struct mt_worker *w, unsigned index, void *user)
{
	struct handover *h = user;

	for (size_t i = 0; i < h->listen.addr_count; i++) {
		int *fd = &h->listen.fds[index * h->listen.addr_count + i];
		int rv = mt_worker_add_tls_listener(w, h->ids[i], *fd);

		if (rv == 0) {
			*fd = -1;
		} else {
			atomic_store(&h->failed, rv);
		}
	}
	for (size_t i = 0; i < h->old_count; i++) {
		mt_worker_close_tls_listener(w, h->old[i]);
	}
}

static void handed_over(void *user, bool cancelled)
{
	struct handover *h = user;
	int failed = atomic_load(&h->failed);

	if (failed != 0 && !cancelled) {
		mt_listener_not_taken(
			h->a, failed, h->a->facts.tls_problem, sizeof(h->a->facts.tls_problem));
	}
	mt_tls_listen_close(&h->listen);
	free(h);
}

int mt_tls_move_start(struct mt_tls_move *move, struct mt_appliance *a)
{
	static const struct mt_round_ops ops = {.work = hand_over, .done = handed_over};
	struct mt_listeners *l = &a->tls_listeners;
	struct mt_listeners next = {.last_id = l->last_id};
	struct mt_listeners before = *l;
	struct handover *h = calloc(1, sizeof(*h));
	int rv;

	if (h == NULL) {
		return -ENOMEM;
	}
	h->a = a;
	h->listen = move->listen;
	atomic_init(&h->failed, 0);
	for (size_t i = 0; i < l->count; i++) {
		if (move->keep[i]) {
			next.list[next.count++] = l->list[i];
		} else {
			h->old[h->old_count++] = l->list[i].id;
		}
	}
	for (size_t i = 0; i < h->listen.addr_count; i++) {
		h->ids[i] = mt_listeners_add(&next, &h->listen.wanted[i], &h->listen.addrs[i]);
	}
	rv = mt_appliance_ask(a, -1, &ops, h);
	if (rv != 0) {
		free(h);
		return rv;
	}
	for (size_t i = 0; i < before.count; i++) {
		if (!move->keep[i]) {
			mt_listener_tell(a, "tls", "listener_closed", &before.list[i].addr);
		}
	}
	for (size_t i = 0; i < h->listen.addr_count; i++) {
		mt_listener_tell(a, "tls", "listening", &h->listen.addrs[i]);
	}
	*l = next;
	move->prepared = false;
	post(a);
	return 0;
}

void mt_tls_listeners_try(struct mt_appliance *a)
{
	const struct mt_move none = {.prepared = false};
	struct mt_tls_move move = {.prepared = false};
	char why[MT_WHY_MAX] = "";
	char next[MT_WHY_MAX] = "";
	enum mt_ktls_state kernel = mt_ktls_probe();
	int rv;

	a->facts.tls_kernel = kernel == MT_KTLS_ON;
	a->facts.tls_records = a->facts.tls_kernel ? "kernel" : "gnutls";
	a->facts.tls_why = mt_ktls_text(kernel);
	rv = mt_tls_move_prepare(
		&move, a, &a->settings, &none, why, sizeof(why), next, sizeof(next));

	if (rv == 0) {
		rv = mt_tls_move_start(&move, a);
		mt_tls_move_drop(&move);
		if (rv != 0) {
			(void)snprintf(why, sizeof(why), "%s", mt_strerror(rv));
		}
	}
	if (rv != 0) {
		char text[sizeof(a->facts.tls_problem)];

		/* For people: cut when too long. */
		(void)snprintf(text, sizeof(text), "TLS over TCP is not served: %.200s; %.200s",
			why, next);
		if (strcmp(text, a->facts.tls_problem) != 0) {
			mt_log(MT_LOG_WARN, "tls_not_served", MT_LOG_TEXT("problem", why),
				MT_LOG_TEXT("next", next));
			memcpy(a->facts.tls_problem, text, sizeof(text));
			mt_appliance_post_facts(a);
		}
	}
}

#include "daemon/pictures.h"

#include "daemon/appliance.h"
#include "daemon/gather.h"
#include "web/hub.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- connections ---- */

struct photo {
	struct mt_hub *hub;
	struct mt_rows of[MT_WORKERS_MAX];
};

static bool gather(struct mt_worker *w, unsigned index, void *user)
{
	struct photo *p = user;

	return mt_gather_some(w, &p->of[index]);
}

static void fill_connection(struct mt_web_connection *out, const struct mt_connection_row *row)
{
	*out = (struct mt_web_connection){
		.transport = row->is_tls ? "tls" : "quic",
		.congestion_control = row->is_tls ? "kernel" : mt_cc_text(row->congestion_control),
		.worker = row->worker,
		.connected_at = row->connected_at,
		.rtt_ms = row->rtt_ms,
		.bytes_received = row->bytes_received,
		.bytes_sent = row->bytes_sent,
		.streams = row->streams,
		.udp_flows = row->udp_flows,
	};
	memcpy(out->id, row->id, sizeof(out->id));
	memcpy(out->client, row->client, sizeof(out->client));
	(void)mt_addr_format(&row->peer, out->peer, sizeof(out->peer));
	if (row->trace != 0) {
		(void)mt_trace_format_connection(out->trace, row->trace); /* returns it */
	}
}

static void gathered(void *user, bool cancelled)
{
	struct photo *p = user;
	struct mt_web_connection *rows = NULL;
	bool failed = cancelled;
	size_t total = 0;
	size_t n = 0;

	for (size_t w = 0; w < MT_WORKERS_MAX; w++) {
		total += p->of[w].count;
		failed = failed || p->of[w].failed;
	}
	if (!failed && total > 0) {
		rows = calloc(total, sizeof(*rows));
		failed = rows == NULL;
	}
	for (size_t w = 0; w < MT_WORKERS_MAX; w++) {
		for (size_t i = 0; rows != NULL && i < p->of[w].count; i++) {
			fill_connection(&rows[n++], &p->of[w].rows[i]);
		}
		free(p->of[w].rows);
	}
	if (failed) {
		mt_hub_publish_failure(p->hub, MT_WEB_CONNECTIONS);
	} else {
		mt_hub_publish(p->hub, MT_WEB_CONNECTIONS, rows, n);
	}
	free(p);
}

static void take_connections(struct mt_appliance *a)
{
	static const struct mt_round_ops ops = {.work_some = gather, .done = gathered};
	struct photo *p = calloc(1, sizeof(*p));

	if (p != NULL) {
		p->hub = a->hub;
	}
	if (p == NULL || mt_appliance_ask(a, -1, &ops, p) != 0) {
		free(p);
		mt_hub_publish_failure(a->hub, MT_WEB_CONNECTIONS);
	}
}

/* ---- clients ---- */

static const char *state_of(const struct mt_snapshot_client *c, int64_t now)
{
	if (c->revoked) {
		return "revoked";
	}
	if (c->disabled) {
		return "disabled";
	}
	if (c->expires_at != 0 && now >= c->expires_at) {
		return "expired";
	}
	return mt_account_is_exhausted(c->account) ? "over quota" : "active";
}

static void fill_client(struct mt_web_client *out, const struct mt_snapshot_client *c, int64_t now)
{
	const struct mt_account_limits *limits = &c->account->limits;
	struct mt_store_usage usage;

	mt_account_usage(c->account, &usage);
	*out = (struct mt_web_client){
		.state = state_of(c, now),
		.connections = atomic_load(&c->account->connections),
		.max_connections = limits->max_connections,
		.bytes_received = (uint64_t)usage.bytes_received,
		.bytes_sent = (uint64_t)usage.bytes_sent,
		.last_seen = usage.last_seen,
		.expires_at = c->expires_at,
		.rate_bits = limits->rate_bits,
		.quota_bytes = limits->quota_bytes,
		.quota_used = usage.period_bytes,
	};
	memcpy(out->name, c->name, sizeof(out->name));
	memcpy(out->last_address, usage.last_address, sizeof(out->last_address));
}

static void take_clients(struct mt_appliance *a)
{
	size_t count = a->snapshot->client_count;
	struct mt_web_client *rows = count > 0 ? calloc(count, sizeof(*rows)) : NULL;
	int64_t now = (int64_t)time(NULL);

	for (size_t i = 0; rows != NULL && i < count; i++) {
		fill_client(&rows[i], &a->snapshot->clients[i], now);
	}
	mt_hub_publish(a->hub, MT_WEB_CLIENTS, rows, count);
}

/* ---- asking ---- */

static void run_letter(struct mt_message_node *node, void *receiver)
{
	struct mt_picture_letter *l = (struct mt_picture_letter *)node;
	struct mt_appliance *a = l->pictures->appliance;

	(void)receiver;
	atomic_store(&l->on_its_way, false);
	if (l->which == MT_WEB_CLIENTS) {
		take_clients(a);
	} else {
		take_connections(a);
	}
}

void mt_pictures_init(struct mt_pictures *p, struct mt_appliance *a)
{
	p->appliance = a;
	for (size_t i = 0; i < MT_WEB_LISTINGS; i++) {
		p->letters[i].node.run = run_letter;
		p->letters[i].pictures = p;
		p->letters[i].which = (enum mt_web_listing)i;
		atomic_init(&p->letters[i].on_its_way, false);
	}
}

void mt_pictures_want(void *user, enum mt_web_listing which)
{
	struct mt_pictures *p = user;
	struct mt_picture_letter *l = &p->letters[which];

	if (!atomic_exchange(&l->on_its_way, true)) {
		mt_inbox_post(&p->appliance->inbox, &l->node);
	}
}

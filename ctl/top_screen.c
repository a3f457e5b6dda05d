#include "ctl/top_screen.h"

#include "ctl/ctl.h"
#include "ctl/table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define LINE_TEXT_MAX 512
#define REVERSE       "\033[7m"
#define BOLD          "\033[1m"
#define RED           "\033[31m"
#define PLAIN         "\033[0m"

struct row {
	const char *name;
	const char *peer;
	const char *id;
	uint64_t received;
	uint64_t sent;
	double rate_in; /* bytes per second */
	double rate_out;
	double rtt_ms;
	uint64_t streams;
	uint64_t udp;
	unsigned worker;
	unsigned connections;
};

struct canvas {
	FILE *out;
	const struct mt_top_view *view;
	unsigned line;
};

void mt_top_sample_clear(struct mt_top_sample *s)
{
	json_decref(s->status);
	json_decref(s->stats);
	json_decref(s->connections);
	*s = (struct mt_top_sample){.status = NULL};
}

/* One line; cut at the width, and nothing beyond the last line. */
static void __attribute__((format(printf, 3, 4)))
put(struct canvas *c, const char *style, const char *format, ...)
{
	char text[LINE_TEXT_MAX];
	va_list args;
	int len;

	if (c->line >= c->view->lines) {
		return;
	}
	va_start(args, format);
	len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (len < 0) {
		text[0] = '\0';
	}
	for (char *p = text; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f) {
			*p = '?'; /* names and addresses come from elsewhere */
		}
	}
	/* Erased first: behind a full line the cursor still stands on its last character. */
	fprintf(c->out, "\033[K%s%.*s%s%s", c->view->color ? style : "", (int)c->view->columns,
		text, c->view->color && *style != '\0' ? PLAIN : "",
		++c->line < c->view->lines ? "\n" : "");
}

static uint64_t number(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static double seconds_between(const struct mt_top_view *v)
{
	double span = v->now->at - v->before->at;

	return v->before->connections != NULL && span > 0.05 ? span : 0;
}

static double rate(uint64_t now, uint64_t before, double span)
{
	return span > 0 && now >= before ? (double)(now - before) / span : 0;
}

/* "12.5M", with `gap` "12.5 M": bits per second. */
static const char *rate_text(char *buf, double bytes_per_second, bool gap)
{
	static const char *const units[] = {"", "K", "M", "G", "T"};
	double bits = bytes_per_second * 8;
	size_t u = 0;

	while (bits >= 999.5 && u + 1 < sizeof(units) / sizeof(units[0])) {
		bits /= 1000;
		u++;
	}
	(void)snprintf(buf, MT_NUMBER_TEXT_MAX, u > 0 && bits < 99.95 ? "%.1f%s%s" : "%.0f%s%s",
		bits, gap ? " " : "", units[u]); /* fits */
	return buf;
}

static const json_t *find_before(const struct mt_top_view *v, const char *id)
{
	size_t i;
	json_t *row;

	json_array_foreach(json_object_get(v->before->connections, "connections"), i, row)
	{
		if (strcmp(mt_ctl_text(row, "id"), id) == 0) {
			return row;
		}
	}
	return NULL;
}

/* The same connection is most often at the same place of the list, or near it. */
static const json_t *match_before(const struct mt_top_view *v, const char *id, size_t *hint)
{
	const json_t *list = json_object_get(v->before->connections, "connections");

	for (size_t i = *hint; i < *hint + 8 && i < json_array_size(list); i++) {
		const json_t *row = json_array_get(list, i);

		if (strcmp(mt_ctl_text(row, "id"), id) == 0) {
			*hint = i + 1;
			return row;
		}
	}
	return find_before(v, id);
}

static void fill_row(struct row *r, const struct mt_top_view *v, const json_t *c, size_t *hint)
{
	const json_t *old = match_before(v, mt_ctl_text(c, "id"), hint);
	double span = seconds_between(v);

	r->name = *mt_ctl_text(c, "client") != '\0' ? mt_ctl_text(c, "client") : "-";
	r->peer = mt_ctl_text(c, "peer");
	r->id = mt_ctl_text(c, "id");
	r->received = number(c, "bytes_received");
	r->sent = number(c, "bytes_sent");
	r->rate_in = rate(r->received, number(old, "bytes_received"), span);
	r->rate_out = rate(r->sent, number(old, "bytes_sent"), span);
	r->rtt_ms = json_number_value(json_object_get(c, "rtt_ms"));
	r->streams = number(c, "streams");
	r->udp = number(c, "udp_flows");
	r->worker = (unsigned)number(c, "worker");
	r->connections = 1;
}

static int by_client(const void *a, const void *b)
{
	return strcmp(((const struct row *)a)->name, ((const struct row *)b)->name);
}

static size_t merge(struct row *rows, size_t count)
{
	size_t kept = 0;

	qsort(rows, count, sizeof(*rows), by_client);
	for (size_t i = 0; i < count; i++) {
		struct row *last = kept > 0 ? &rows[kept - 1] : NULL;

		if (last == NULL || strcmp(last->name, rows[i].name) != 0) {
			rows[kept++] = rows[i];
			continue;
		}
		last->received += rows[i].received;
		last->sent += rows[i].sent;
		last->rate_in += rows[i].rate_in;
		last->rate_out += rows[i].rate_out;
		last->streams += rows[i].streams;
		last->udp += rows[i].udp;
		last->connections++;
		if (rows[i].rtt_ms > last->rtt_ms) {
			last->rtt_ms = rows[i].rtt_ms; /* the worst of them */
		}
	}
	return kept;
}

static int descending(double x, double y)
{
	return x < y ? 1 : x > y ? -1 : 0;
}

static int compare(const void *a, const void *b, void *user)
{
	const struct row *x = a;
	const struct row *y = b;
	int order = 0;

	switch (*(const enum mt_top_order *)user) {
	case MT_TOP_BY_RATE:
		order = descending(x->rate_in + x->rate_out, y->rate_in + y->rate_out);
		break;
	case MT_TOP_BY_RTT: order = descending(x->rtt_ms, y->rtt_ms); break;
	case MT_TOP_BY_STREAMS: order = descending((double)x->streams, (double)y->streams); break;
	case MT_TOP_BY_TOTAL:
		order = descending(
			(double)(x->received + x->sent), (double)(y->received + y->sent));
		break;
	default: break;
	}
	if (order == 0) {
		order = strcmp(x->name, y->name);
	}
	return order != 0 ? order : strcmp(x->id, y->id);
}

static const char *order_text(enum mt_top_order order)
{
	switch (order) {
	case MT_TOP_BY_NAME: return "name";
	case MT_TOP_BY_RTT: return "round trip";
	case MT_TOP_BY_STREAMS: return "streams";
	case MT_TOP_BY_TOTAL: return "total";
	default: return "rate";
	}
}

static void draw_head(struct canvas *c)
{
	const struct mt_top_view *v = c->view;
	const json_t *status = v->now->status;
	const json_t *counters = json_object_get(v->now->stats, "counters");
	const json_t *old = json_object_get(v->before->stats, "counters");
	double span = old != NULL ? seconds_between(v) : 0;
	char up[MT_NUMBER_TEXT_MAX];
	char a[MT_NUMBER_TEXT_MAX];
	char b[MT_NUMBER_TEXT_MAX];

	put(c, BOLD, "mytunneld %s  %s  up %s  %" PRIu64 " workers  sorted by %s",
		mt_ctl_text(status, "version"), mt_ctl_text(status, "state"),
		mt_format_duration(up, (int64_t)number(status, "uptime_seconds")),
		number(status, "workers"), order_text(v->order));
	put(c, "",
		"connections %" PRIu64 " (%" PRIu64 " in all, %" PRIu64
		" refused)  tunnels %" PRIu64 "  udp %" PRIu64,
		number(counters, "connections_active"), number(counters, "connections_total"),
		number(counters, "connections_refused") + number(counters, "identity_refused"),
		number(counters, "tunnels_active"), number(counters, "udp_flows_active"));
	put(c, "", "now    %7sbit/s from clients  %7sbit/s to clients",
		rate_text(a,
			rate(number(counters, "bytes_received"), number(old, "bytes_received"),
				span),
			true),
		rate_text(b, rate(number(counters, "bytes_sent"), number(old, "bytes_sent"), span),
			true));
	put(c, "", "total  %10s from clients  %10s to clients",
		mt_format_bytes(a, number(counters, "bytes_received")),
		mt_format_bytes(b, number(counters, "bytes_sent")));
}

/* As many workers as fit: connections and traffic of each. */
static void draw_workers(struct canvas *c)
{
	const struct mt_top_view *v = c->view;
	const json_t *workers = json_object_get(v->now->stats, "workers");
	const json_t *old = json_object_get(v->before->stats, "workers");
	double span = old != NULL ? seconds_between(v) : 0;
	char text[LINE_TEXT_MAX] = "workers";
	size_t i;
	json_t *w;

	json_array_foreach(workers, i, w)
	{
		const json_t *o = json_array_get(old, i);
		size_t used = strlen(text);
		char buf[MT_NUMBER_TEXT_MAX];
		double sum = rate(number(w, "bytes_received") + number(w, "bytes_sent"),
			number(o, "bytes_received") + number(o, "bytes_sent"),
			o != NULL ? span : 0);

		if (snprintf(text + used, sizeof(text) - used, "  %zu: %" PRIu64 " conn %sbit/s", i,
			    number(w, "connections_active"),
			    rate_text(buf, sum, true)) >= (int)(sizeof(text) - used)) {
			break;
		}
	}
	put(c, "", "%s", text);
}

static void draw_row(struct canvas *c, const struct row *r)
{
	char in[MT_NUMBER_TEXT_MAX];
	char out[MT_NUMBER_TEXT_MAX];
	char total_in[MT_NUMBER_TEXT_MAX];
	char total_out[MT_NUMBER_TEXT_MAX];

	rate_text(in, r->rate_in, false);
	rate_text(out, r->rate_out, false);
	(void)mt_format_bytes(total_in, r->received);
	(void)mt_format_bytes(total_out, r->sent);
	if (c->view->by_client) {
		put(c, "", "%-20.20s %5u %7s %7s %9s %9s %8.1f %4" PRIu64 " %3" PRIu64, r->name,
			r->connections, in, out, total_in, total_out, r->rtt_ms, r->streams,
			r->udp);
	} else {
		put(c, "", "%-12.12s %-8.8s %7s %7s %8.1f %4" PRIu64 " %3" PRIu64 " %-22s %9s %9s",
			r->name, r->id, in, out, r->rtt_ms, r->streams, r->udp, r->peer, total_in,
			total_out);
	}
}

static void draw_foot(struct canvas *c, size_t shown, size_t rows)
{
	const struct mt_top_view *v = c->view;

	while (c->line + 1 < v->lines) {
		put(c, "", "%s", "");
	}
	if (v->problem != NULL && v->problem[0] != '\0') {
		put(c, RED, "%s", v->problem);
	} else {
		put(c, REVERSE,
			"q quit  c %s  sort: r rate  n name  l rtt  s streams  t total  %zu of %zu",
			v->by_client ? "connections" : "clients", shown, rows);
	}
}

int mt_top_draw(FILE *out, const struct mt_top_view *view, size_t *rows)
{
	const json_t *list = json_object_get(view->now->connections, "connections");
	struct canvas c = {.out = out, .view = view};
	size_t count = json_array_size(list);
	struct row *all = calloc(count + 1, sizeof(*all));
	enum mt_top_order order = view->order;
	size_t shown = 0;
	size_t hint = 0;
	size_t i;
	json_t *row;

	if (all == NULL) {
		return -ENOMEM;
	}
	json_array_foreach(list, i, row)
	{
		fill_row(&all[i], view, row, &hint);
	}
	if (view->by_client) {
		count = merge(all, count);
	}
	qsort_r(all, count, sizeof(*all), compare, &order);
	draw_head(&c);
	draw_workers(&c);
	if (view->by_client) {
		put(&c, REVERSE, "%-20s %5s %7s %7s %9s %9s %8s %4s %3s", "CLIENT", "CONNS",
			"UP b/s", "DN b/s", "UP", "DOWN", "RTT ms", "STRM", "UDP");
	} else {
		put(&c, REVERSE, "%-12s %-8s %7s %7s %8s %4s %3s %-22s %9s %9s", "CLIENT", "ID",
			"UP b/s", "DN b/s", "RTT ms", "STRM", "UDP", "PEER", "UP", "DOWN");
	}
	for (i = view->first; i < count && c.line + 1 < view->lines; i++, shown++) {
		draw_row(&c, &all[i]);
	}
	draw_foot(&c, shown, count);
	free(all);
	*rows = count;
	return 0;
}

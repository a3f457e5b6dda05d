#include "tests/sim/echo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static uint8_t pattern(uint64_t seed, uint64_t i)
{
	uint64_t x = (seed + i / 8) * 0x9e3779b97f4a7c15ull;

	return (uint8_t)((x ^ (x >> 29)) >> (i % 8 * 8));
}

/* server */

static void server_pump(struct mt_stream *s, struct echo *e)
{
	struct iovec from;

	while (!e->server_holds && mt_stream_peek(s, &from, 1) == 1) {
		size_t n = from.iov_len, space = mt_stream_send_space(s);

		n = n < space ? n : space;
		if (n == 0 || mt_stream_send(s, from.iov_base, n) != 0) {
			return;
		}
		mt_stream_consume(s, n);
	}
	if (mt_stream_fin_received(s) && mt_stream_readable(s) == 0) {
		mt_stream_send_fin(s);
	}
}

static void server_event(struct mt_stream *s, void *user)
{
	server_pump(s, user);
}

static void server_reset(struct mt_stream *s, uint64_t code, void *user)
{
	(void)user;
	mt_stream_reset(s, code);
}

static void server_end(struct mt_stream *s, int err, void *user)
{
	struct echo *e = user;

	(void)err;
	for (unsigned i = 0; i < e->server_stream_count; i++) {
		if (e->server_streams[i] == s) {
			e->server_streams[i] = e->server_streams[--e->server_stream_count];
			break;
		}
	}
	mt_stream_release(s, 0);
}

static const struct mt_stream_handler server_handler = {
	.on_readable = server_event,
	.on_writable = server_event,
	.on_reset = server_reset,
	.on_end = server_end,
};

static void server_stream(void *user, struct mt_conn *c, struct mt_stream *s)
{
	struct echo *e = user;

	e->server_conn = c;
	assert_true(e->server_stream_count < ECHO_STREAMS_MAX);
	e->server_streams[e->server_stream_count++] = s;
	mt_stream_set_handler(s, &server_handler, e);
}

static void server_established(void *user, struct mt_conn *c)
{
	struct echo *e = user;

	e->server_conn = c;
	assert_non_null(mt_conn_fingerprint(c));
	assert_memory_equal(mt_conn_fingerprint(c), e->sim.client_fingerprint, MT_FINGERPRINT_LEN);
}

static void server_datagram(void *user, struct mt_conn *c, const uint8_t *data, size_t len)
{
	(void)user;
	if (mt_conn_send_datagram(c, data, len, NULL, 0) != 0) {
		/* too large for the way back: dropped */
	}
}

static void server_conn_end(void *user, struct mt_conn *c, const struct mt_conn_end *end)
{
	struct echo *e = user;

	(void)c;
	e->server_ended = true;
	e->server_end = *end;
	e->server_conn = NULL;
}

static int authorize(void *user, const uint8_t *fingerprint)
{
	struct echo *e = user;

	e->authorized++;
	assert_non_null(fingerprint);
	return e->authorize_alert;
}

/* client */

static void client_fill(struct echo_stream *es)
{
	struct iovec iov[4];
	size_t pieces, done;

	while (es->sent < es->size && (pieces = mt_stream_reserve(es->s, iov, 4)) > 0) {
		done = 0;
		for (size_t i = 0; i < pieces; i++) {
			for (size_t j = 0; j < iov[i].iov_len && es->sent < es->size; j++, done++) {
				((uint8_t *)iov[i].iov_base)[j] = pattern(es->seed, es->sent++);
			}
		}
		mt_stream_commit(es->s, done);
	}
	if (es->sent == es->size) {
		mt_stream_send_fin(es->s);
	}
}

static void client_readable(struct mt_stream *s, void *user)
{
	struct echo_stream *es = user;
	struct iovec iov[4];
	size_t pieces, n;

	while ((pieces = mt_stream_peek(s, iov, 4)) > 0) {
		n = 0;
		for (size_t i = 0; i < pieces; i++) {
			for (size_t j = 0; j < iov[i].iov_len; j++, n++) {
				if (((uint8_t *)iov[i].iov_base)[j] !=
					pattern(es->seed, es->received++)) {
					es->wrong = true;
				}
			}
		}
		mt_stream_consume(s, n);
	}
	es->fin = mt_stream_fin_received(s);
}

static void client_writable(struct mt_stream *s, void *user)
{
	(void)s;
	client_fill(user);
}

static void client_cut(struct mt_stream *s, uint64_t code, void *user)
{
	(void)s, (void)code;
	((struct echo_stream *)user)->cut = true;
}

static void client_end(struct mt_stream *s, int err, void *user)
{
	struct echo_stream *es = user;

	es->ended = true;
	es->end_err = err;
	es->cut = es->cut || err != 0;
	mt_stream_release(s, 0);
	es->s = NULL;
}

static const struct mt_stream_handler client_handler = {
	.on_readable = client_readable,
	.on_writable = client_writable,
	.on_reset = client_cut,
	.on_stop = client_cut,
	.on_end = client_end,
};

static void client_established(void *user, struct mt_conn *c)
{
	(void)c;
	((struct echo *)user)->established = true;
}

static void client_datagram(void *user, struct mt_conn *c, const uint8_t *data, size_t len)
{
	struct echo *e = user;

	(void)c;
	for (size_t i = 1; i < len; i++) {
		e->datagram_wrong = e->datagram_wrong || data[i] != (uint8_t)(data[0] + i);
	}
	e->datagrams++;
}

static void client_conn_end(void *user, struct mt_conn *c, const struct mt_conn_end *end)
{
	struct echo *e = user;

	(void)c;
	e->ended = true;
	e->end = *end;
	e->conn = NULL;
}

static struct mt_endpoint_events server_events;

const struct mt_endpoint_events *echo_server_events(struct echo *e)
{
	server_events = (struct mt_endpoint_events){
		.authorize = authorize,
		.on_established = server_established,
		.on_stream = server_stream,
		.on_datagram = server_datagram,
		.on_end = server_conn_end,
		.user = e,
	};
	return &server_events;
}

void echo_init(struct echo *e, uint64_t seed)
{
	struct mt_endpoint_events client = {
		.on_established = client_established,
		.on_datagram = client_datagram,
		.on_end = client_conn_end,
		.user = e,
	};

	memset(e, 0, sizeof(*e));
	sim_init(&e->sim, seed, &client, echo_server_events(e));
}

void echo_deinit(struct echo *e)
{
	for (unsigned i = 0; i < e->stream_count; i++) {
		if (e->streams[i].s) {
			mt_stream_release(e->streams[i].s, 0);
		}
	}
	while (e->server_stream_count > 0) {
		mt_stream_release(e->server_streams[--e->server_stream_count], 0);
	}
	sim_deinit(&e->sim);
}

bool echo_is_established(void *user)
{
	struct echo *e = user;

	return e->established || e->ended;
}

bool echo_has_ended(void *user)
{
	struct echo *e = user;

	return e->ended;
}

bool echo_all_done(void *user)
{
	struct echo *e = user;

	for (unsigned i = 0; i < e->stream_count; i++) {
		if (!e->streams[i].ended) {
			return false;
		}
	}
	return true;
}

void echo_connect(struct echo *e)
{
	e->conn = sim_connect(&e->sim);
	assert_true(sim_run(&e->sim, echo_is_established, e, 20 * SIM_S));
	assert_true(e->established);
}

struct echo_stream *echo_start(struct echo *e, uint64_t size)
{
	struct echo_stream *es = &e->streams[e->stream_count];

	assert_true(e->stream_count < ECHO_STREAMS_MAX);
	*es = (struct echo_stream){
		.echo = e, .size = size, .seed = e->stream_count * 1000003u + size};
	assert_int_equal(mt_conn_open_stream(e->conn, &es->s), 0);
	e->stream_count++;
	mt_stream_set_handler(es->s, &client_handler, es);
	client_fill(es);
	return es;
}

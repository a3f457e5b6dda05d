/* links: tests/sim/sim.c tests/sim/echo.c proto/quic/accept.c proto/quic/cid.c proto/quic/conn.c
 * proto/quic/conn_new.c proto/quic/qlog.c proto/quic/conn_callbacks.c proto/quic/conn_write.c
 * proto/quic/conn_path.c proto/quic/defer.c proto/quic/endpoint.c proto/quic/expiry.c
 * proto/quic/mem.c proto/quic/memory.c proto/quic/stream.c proto/quic/stream_kind.c
 * proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c store/pki.c store/pki_check.c
 * proto/wire/addr.c proto/wire/bytes.c proto/wire/encode.c proto/wire/err.c proto/quic/order.c
 * proto/quic/room.c proto/quic/calm.c
 */
#include "proto/quic/impl.h"
#include "proto/wire/request.h"
#include "tests/sim/echo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

struct fixture {
	struct echo e; /* first: the events' user */
	struct mt_endpoint_events echo_events;
	bool wanted;
	bool keep;
	bool refuse; /* what is told is not wanted any more */
	unsigned asked;
	unsigned parts;
	size_t bytes;
	uint64_t lost;
	bool ended;
	char first[256];
};

static bool wants(void *user)
{
	struct fixture *f = user;

	f->asked++;
	return f->wanted;
}

static bool told(void *user, struct mt_conn *c, const struct mt_qlog_part *part)
{
	struct fixture *f = user;

	assert_true(c->established && !f->ended);
	if (f->parts++ == 0) {
		size_t n = part->len < sizeof(f->first) - 1 ? part->len : sizeof(f->first) - 1;

		memcpy(f->first, part->data, n);
	}
	f->bytes += part->len;
	f->lost += part->lost;
	f->ended = part->end;
	return !f->refuse;
}

static void established(void *user, struct mt_conn *c)
{
	struct fixture *f = user;

	f->echo_events.on_established(user, c);
	if (f->keep) {
		mt_conn_keep_qlog(c);
	}
}

static void init(struct fixture *f, uint64_t seed)
{
	struct mt_endpoint_events *ev;

	memset(f, 0, sizeof(*f));
	echo_init(&f->e, seed);
	ev = &f->e.sim.server.ep->cfg.events;
	f->echo_events = *ev;
	ev->wants_qlog = wants;
	ev->on_qlog = told;
	ev->on_established = established;
	f->wanted = f->keep = true;
}

static void run(struct fixture *f)
{
	echo_connect(&f->e);
	(void)echo_start(&f->e, 100000);
	assert_true(sim_run(&f->e.sim, echo_all_done, &f->e, 20 * SIM_S));
	assert_int_equal(f->e.sim.server.ep->qlogs_held, 0);
}

static bool is_safe(void)
{
	const char *text = "";

	return mt_qlog_is_safe(mt_qlog_library(&text));
}

static void test_unsafe_library_writes_none(void **state)
{
	struct fixture f;

	(void)state;
	if (is_safe()) {
		skip();
	}
	init(&f, 1);
	run(&f);
	assert_int_equal(f.asked, 1);
	assert_int_equal(f.parts, 0);
	assert_null(f.e.server_conn->qlog);
	echo_deinit(&f.e);
}

static void test_unwanted(void **state)
{
	struct fixture f;

	(void)state;
	init(&f, 2);
	f.wanted = false;
	run(&f);
	assert_int_equal(f.asked, 1);
	assert_int_equal(f.parts, 0);
	assert_null(f.e.server_conn->qlog);
	echo_deinit(&f.e);
}

/* From its first packet, which came before the client was known, to its end. */
static void test_kept(void **state)
{
	struct fixture f;
	size_t before;

	(void)state;
	if (!is_safe()) {
		skip();
	}
	init(&f, 3);
	run(&f);
	assert_true(mt_conn_has_qlog(f.e.server_conn));
	assert_non_null(strstr(f.first, "qlog_format"));
	assert_int_equal(f.first[0], 0x1e);
	assert_true(f.bytes > 10000 && f.lost == 0 && !f.ended);
	before = f.bytes;
	mt_conn_close(f.e.conn, MT_APP_CANCELLED, "done");
	(void)sim_run(&f.e.sim, NULL, NULL, 10 * SIM_S);
	assert_true(f.e.server_ended && f.ended && f.bytes > before);
	echo_deinit(&f.e);
}

static void test_other_client_is_dropped(void **state)
{
	struct fixture f;

	(void)state;
	if (!is_safe()) {
		skip();
	}
	init(&f, 4);
	f.keep = false;
	run(&f);
	assert_int_equal(f.parts, 0);
	assert_null(f.e.server_conn->qlog);
	echo_deinit(&f.e);
}

static void test_no_longer_wanted(void **state)
{
	struct fixture f;

	(void)state;
	if (!is_safe()) {
		skip();
	}
	init(&f, 5);
	f.refuse = true;
	run(&f);
	assert_int_equal(f.parts, 1);
	assert_null(f.e.server_conn->qlog);
	echo_deinit(&f.e);
}

/* A handshake that is not finished holds no more than its share, and nothing once it is over. */
static void test_held_is_bounded(void **state)
{
	struct fixture f;

	(void)state;
	if (!is_safe()) {
		skip();
	}
	init(&f, 6);
	f.e.sim.server.ep->qlogs_held = MT_QLOG_HELD_MAX;
	echo_connect(&f.e);
	assert_null(f.e.server_conn->qlog);
	assert_int_equal(f.parts, 0);
	echo_deinit(&f.e);
	init(&f, 7);
	f.e.authorize_alert = GNUTLS_A_ACCESS_DENIED;
	f.e.conn = sim_connect(&f.e.sim);
	assert_true(sim_run(&f.e.sim, echo_has_ended, &f.e, 20 * SIM_S));
	(void)sim_run(&f.e.sim, NULL, NULL, 10 * SIM_S);
	assert_int_equal(f.e.sim.server.ep->qlogs_held, 0);
	assert_int_equal(f.parts, 0);
	echo_deinit(&f.e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unsafe_library_writes_none),
		cmocka_unit_test(test_unwanted),
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_other_client_is_dropped),
		cmocka_unit_test(test_no_longer_wanted),
		cmocka_unit_test(test_held_is_bounded),
	};

	if (!is_safe()) {
		/* Here it is never on. */
		puts("qlog is tested with ngtcp2 1.22.1 or later");
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

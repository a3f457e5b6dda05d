/* links: ctl/top_screen.c ctl/table.c */
/* The picture of top: exact in size, whatever the daemon says. */
#include "ctl/ctl.h"
#include "ctl/top_screen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* As in ctl/call.c, which talks to a daemon. */
const char *mt_ctl_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

static json_t *connection(const char *id, const char *client, int received, double rtt)
{
	return json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:i, s:i, s:i}", "id", id, "client",
		client, "peer", "203.0.113.7:50000", "bytes_received", received, "bytes_sent", 0,
		"rtt_ms", rtt, "streams", 1, "udp_flows", 0, "worker", 0);
}

static struct mt_top_sample sample(double at, int bytes)
{
	struct mt_top_sample s = {.at = at};

	s.status = json_pack("{s:s, s:s, s:i, s:i}", "version", "1.0", "state", "running",
		"uptime_seconds", 60, "workers", 1);
	s.stats = json_pack("{s:{s:i, s:i}, s:[{s:i}]}", "counters", "connections_active", 3,
		"bytes_received", 2 * bytes, "workers", "connections_active", 3);
	s.connections =
		json_pack("{s:[o, o, o]}", "connections", connection("0-1", "ann", bytes, 5),
			connection("0-2", "bob", 0, 90), connection("0-3", "ann", bytes, 7));
	return s;
}

/* The picture without its control sequences; checks its size. */
static char *draw(struct mt_top_view *view, size_t *rows)
{
	char *raw = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&raw, &len);
	unsigned lines = 1;
	unsigned width = 0;
	size_t to = 0;

	assert_non_null(out);
	assert_int_equal(mt_top_draw(out, view, rows), 0);
	assert_int_equal(fclose(out), 0);
	for (size_t i = 0; i < len; i++) {
		if (raw[i] == '\033') {
			while (raw[i] != 'K' && raw[i] != 'm') {
				i++;
			}
			continue;
		}
		if (raw[i] == '\n') {
			lines++;
			width = 0;
		} else {
			width++;
			assert_true(width <= view->columns);
		}
		raw[to++] = raw[i];
	}
	raw[to] = '\0';
	assert_int_equal(lines, view->lines);
	return raw;
}

struct pictures {
	struct mt_top_sample before;
	struct mt_top_sample now;
	struct mt_top_view view;
};

static int setup(void **state)
{
	struct pictures *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	p->before = sample(10, 0);
	p->now = sample(12, 2500000);
	p->view = (struct mt_top_view){
		.now = &p->now, .before = &p->before, .columns = 80, .lines = 24, .color = true};
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct pictures *p = *state;

	mt_top_sample_clear(&p->before);
	mt_top_sample_clear(&p->now);
	free(p);
	return 0;
}

static void test_draw_clients_are_summed(void **state)
{
	struct pictures *p = *state;
	size_t rows = 0;
	char *text;

	p->view.by_client = true;
	text = draw(&p->view, &rows);
	assert_int_equal(rows, 2);
	/* Two connections of 1.25 MB/s each are 20 Mbit/s. */
	assert_non_null(strstr(text, "\nann                      2   20.0M"));
	assert_true(strstr(text, "\nann ") < strstr(text, "\nbob "));
	assert_non_null(strstr(text, "20.0 Mbit/s from clients"));
	free(text);
}

static void test_draw_orders(void **state)
{
	struct pictures *p = *state;
	size_t rows = 0;
	char *text;

	p->view.order = MT_TOP_BY_RTT;
	text = draw(&p->view, &rows);
	assert_int_equal(rows, 3);
	assert_true(strstr(text, " 0-2 ") < strstr(text, " 0-3 "));
	assert_true(strstr(text, " 0-3 ") < strstr(text, " 0-1 "));
	free(text);
}

static void test_draw_any_size(void **state)
{
	struct pictures *p = *state;
	size_t rows = 0;

	for (unsigned lines = 1; lines < 30; lines++) {
		for (unsigned columns = 1; columns < 200; columns += 13) {
			p->view.lines = lines;
			p->view.columns = columns;
			p->view.by_client = columns % 2 == 0;
			free(draw(&p->view, &rows));
		}
	}
	p->view.first = 1000; /* scrolled beyond the end */
	free(draw(&p->view, &rows));
}

static void test_draw_without_anything(void **state)
{
	struct mt_top_sample none = {.status = NULL};
	struct mt_top_view view = {
		.now = &none, .before = &none, .columns = 80, .lines = 24, .problem = "gone"};
	size_t rows = 7;
	char *text = draw(&view, &rows);

	(void)state;
	assert_int_equal(rows, 0);
	assert_non_null(strstr(text, "gone"));
	free(text);
}

static void test_draw_foreign_text_is_harmless(void **state)
{
	struct pictures *p = *state;
	size_t rows = 0;
	char *text;

	assert_int_equal(json_array_append_new(json_object_get(p->now.connections, "connections"),
				 connection("0-9", "evil\n\033[2J", 0, 1)),
		0);
	text = draw(&p->view, &rows);
	assert_non_null(strstr(text, "evil??[2J"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_draw_clients_are_summed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_draw_orders, setup, teardown),
		cmocka_unit_test_setup_teardown(test_draw_any_size, setup, teardown),
		cmocka_unit_test_setup_teardown(test_draw_without_anything, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_draw_foreign_text_is_harmless, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* links: daemon/log.c daemon/log_budget.c daemon/log_ring.c proto/wire/log_line.c */
#include "daemon/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* Standard error is a pipe while a test runs. */
struct captured {
	int original;
	int reader;
	char text[4 * 1024 * 1024];
	size_t len;
};

static int setup(void **state)
{
	static struct captured captured;
	int fds[2];

	captured = (struct captured){.original = dup(STDERR_FILENO)};
	if (captured.original < 0 || pipe2(fds, O_CLOEXEC) != 0) {
		return -1;
	}
	captured.reader = fds[0];
	(void)dup2(fds[1], STDERR_FILENO); /* the tests tell */
	(void)close(fds[1]);
	mt_log_configure("debug", "json");
	*state = &captured;
	return 0;
}

static int teardown(void **state)
{
	struct captured *c = *state;

	(void)dup2(c->original, STDERR_FILENO);
	(void)close(c->original);
	(void)close(c->reader);
	return unsetenv("JOURNAL_STREAM");
}

/* Waits for ten seconds at most. */
static void read_more(struct captured *c)
{
	struct pollfd in = {.fd = c->reader, .events = POLLIN};
	ssize_t got;

	assert_int_equal(poll(&in, 1, 10000), 1);
	got = read(c->reader, c->text + c->len, sizeof(c->text) - 1 - c->len);
	assert_true(got > 0);
	c->len += (size_t)got;
	c->text[c->len] = '\0';
}

static const char *wait_for(struct captured *c, const char *what)
{
	while (strstr(c->text, what) == NULL) {
		read_more(c);
	}
	return strstr(c->text, what);
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)) != NULL; text++) {
		n++;
	}
	return n;
}

static void test_configure(void **state)
{
	(void)state;
	mt_log_configure("error", "json");
	assert_true(mt_log_enabled(MT_LOG_ERROR));
	assert_false(mt_log_enabled(MT_LOG_WARN));
	mt_log_configure("debug", "json");
	assert_true(mt_log_enabled(MT_LOG_DEBUG));
	mt_log_configure("nonsense", "json");
	assert_true(mt_log_enabled(MT_LOG_DEBUG));
}

static void test_write_before_start(void **state)
{
	mt_log(MT_LOG_INFO, "early", MT_LOG_NUMBER("n", 1));
	assert_non_null(wait_for(*state, "\"event\":\"early\",\"n\":1}\n"));
}

static void test_write_all_at_stop(void **state)
{
	struct captured *c = *state;

	assert_int_equal(mt_log_start(), 0);
	for (int i = 0; i < 40; i++) {
		mt_log(MT_LOG_INFO, "line_at_stop", MT_LOG_NUMBER("n", i));
	}
	mt_log_stop();
	assert_non_null(wait_for(c, "\"n\":39}"));
	assert_int_equal(count(c->text, "line_at_stop"), 40);
}

/* The reader is told how many lines it does not see, though no further one comes. */
static void test_write_flood(void **state)
{
	struct captured *c = *state;
	uint64_t before = mt_log_dropped();
	uint64_t told = 0;
	const char *at;

	assert_int_equal(mt_log_start(), 0);
	for (int i = 0; i < 1000; i++) {
		mt_log(MT_LOG_INFO, "flood", MT_LOG_NUMBER("n", i));
		mt_log(MT_LOG_INFO, i % 100 == 0 ? "rare" : "flood", MT_LOG_NUMBER("n", i));
	}
	assert_true(mt_log_dropped() > before);
	(void)wait_for(c, "\"event\":\"log_suppressed\",\"of\":\"flood\"");
	mt_log_stop();
	mt_log(MT_LOG_INFO, "end");
	(void)wait_for(c, "\"event\":\"end\"");
	for (at = c->text; (at = strstr(at, "\"of\":\"flood\",\"lines\":")) != NULL; at++) {
		told += strtoull(strchr(at, ',') + sizeof(",\"lines\":") - 1, NULL, 10);
	}
	assert_int_equal(told, mt_log_dropped() - before);
	assert_int_equal(count(c->text, "\"event\":\"flood\"") + told, 1990);
	assert_int_equal(count(c->text, "\"event\":\"rare\""), 10); /* a kind of its own */
}

/* Nobody reads: writing takes no time, what is left out is counted, and told once somebody does. */
static void test_write_to_full_pipe(void **state)
{
	static char value[3001];
	struct captured *c = *state;
	uint64_t before = mt_log_dropped();
	struct timespec from, to;

	memset(value, 'x', sizeof(value) - 1);
	assert_int_equal(mt_log_start(), 0);
	(void)clock_gettime(CLOCK_MONOTONIC, &from);
	for (int i = 0; i < 1000; i++) {
		const struct mt_log_field fields[] = {
			MT_LOG_NUMBER("n", i), MT_LOG_TEXT("value", value)};

		mt_log_record("large", fields, 2);
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &to);
	assert_true(to.tv_sec - from.tv_sec < 5);
	/* The queue, the pipe and the batch between them hold less than half. */
	assert_in_range(mt_log_dropped() - before, 500, 999);
	(void)wait_for(c, "\"event\":\"log_dropped\",\"lines\":");
	while (count(c->text, "\"event\":\"large\"") + mt_log_dropped() - before < 1000) {
		read_more(c);
	}
	mt_log_stop();
	assert_int_equal(count(c->text, "\"event\":\"large\"") + mt_log_dropped() - before, 1000);
}

static void test_stop_with_full_pipe(void **state)
{
	static char value[3001];
	struct timespec from, to;

	(void)state;
	memset(value, 'x', sizeof(value) - 1);
	assert_int_equal(mt_log_start(), 0);
	for (int i = 0; i < 100; i++) {
		const struct mt_log_field fields[] = {
			MT_LOG_NUMBER("n", i), MT_LOG_TEXT("value", value)};

		mt_log_record("large", fields, 2);
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &from);
	mt_log_stop();
	(void)clock_gettime(CLOCK_MONOTONIC, &to);
	assert_in_range(to.tv_sec - from.tv_sec, 0, 5);
	(void)wait_for(*state, "\"n\":99,"); /* nothing is lost while the process lives */
	mt_log_stop();
}

static void test_priorities(void **state)
{
	struct captured *c = *state;
	char stream[64];
	struct stat st;

	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	(void)snprintf(stream, sizeof(stream), "%" PRIu64 ":%" PRIu64, (uint64_t)st.st_dev,
		(uint64_t)st.st_ino);
	assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
	assert_int_equal(mt_log_start(), 0);
	mt_log(MT_LOG_ERROR, "e");
	mt_log(MT_LOG_WARN, "w");
	mt_log(MT_LOG_INFO, "i");
	mt_log(MT_LOG_DEBUG, "d");
	mt_log_stop();
	(void)wait_for(c, "\"event\":\"d\"");
	assert_ptr_equal(strstr(c->text, "<3>{\"time\""), c->text);
	assert_non_null(strstr(c->text, "\n<4>{"));
	assert_non_null(strstr(c->text, "\n<6>{"));
	assert_non_null(strstr(c->text, "\n<7>{"));
	/* Another stream than standard error: somebody has redirected it. */
	assert_int_equal(setenv("JOURNAL_STREAM", "1:1", 1), 0);
	assert_int_equal(mt_log_start(), 0);
	mt_log(MT_LOG_INFO, "redirected");
	mt_log_stop();
	(void)wait_for(c, "redirected");
	assert_non_null(strstr(c->text, "\n{\"time\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_configure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_before_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_all_at_stop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_flood, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_to_full_pipe, setup, teardown),
		cmocka_unit_test_setup_teardown(test_priorities, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop_with_full_pipe, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* links: proto/io/frames.c proto/wire/frame.c proto/quic/mem.c */
#include "proto/io/frames.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

/* A carrier that takes `room` bytes more. */
struct world {
	struct mt_mem *mem;
	struct mt_frames *frames;
	uint8_t out[1 << 20];
	size_t out_len;
	size_t room;
	int error;
	unsigned datagrams;
	size_t last_len;
	unsigned rooms;
};

static int carry(void *user, const uint8_t *data, size_t len)
{
	struct world *w = user;

	if (w->error < 0) {
		return w->error;
	}
	if (len > w->room) {
		return MT_E_AGAIN;
	}
	memcpy(w->out + w->out_len, data, len);
	w->out_len += len;
	w->room -= len;
	return 0;
}

static void on_datagram(void *user, const uint8_t *data, size_t len)
{
	struct world *w = user;

	(void)data;
	w->datagrams++;
	w->last_len = len;
}

static void on_room(void *user)
{
	((struct world *)user)->rooms++;
}

static int setup(void **state)
{
	static struct world w;
	struct mt_frames_config config = {
		.carrier = {.send = carry, .user = &w},
		.on_datagram = on_datagram,
		.on_room = on_room,
		.user = &w,
	};

	memset(&w, 0, sizeof(w));
	w.mem = mt_mem_new();
	assert_non_null(w.mem);
	config.mem = w.mem;
	assert_int_equal(mt_frames_new(&w.frames, &config), 0);
	*state = &w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	mt_frames_free(w->frames);
	assert_int_equal(mt_mem_used(w->mem), 0);
	mt_mem_free(w->mem);
	return 0;
}

static void test_send_with_length_in_front(void **state)
{
	struct world *w = *state;

	w->room = 100;
	assert_int_equal(mt_frames_send(w->frames, "ab", 2, "c", 1), 0);
	assert_int_equal(mt_frames_send(w->frames, "", 0, NULL, 0), 0);
	assert_int_equal(w->out_len, 7);
	assert_memory_equal(w->out, "\0\3abc\0\0", 7);
	assert_int_equal(mt_frames_stats(w->frames)->sent, 2);
}

static void test_send_bounds(void **state)
{
	static uint8_t data[65536];
	struct world *w = *state;

	w->room = 70000;
	assert_int_equal(mt_frames_send(w->frames, "a", 1, data, 65535), MT_E_TOO_LONG);
	assert_int_equal(mt_frames_send(w->frames, "a", 1, data, 65534), 0);
	assert_int_equal(w->out_len, 65537);
	assert_int_equal(mt_frames_stats(w->frames)->dropped, 1);
}

/* A carrier that does not keep up loses the oldest, and the order stays. */
static void test_send_oldest_gives_way(void **state)
{
	struct world *w = *state;

	for (uint32_t i = 0; i < MT_FRAMES_QUEUE_MAX + 10; i++) {
		assert_int_equal(mt_frames_send(w->frames, &i, sizeof(i), NULL, 0), 0);
	}
	assert_int_equal(mt_frames_room(w->frames), 0);
	assert_int_equal(mt_frames_stats(w->frames)->dropped, 10);
	w->room = sizeof(w->out);
	mt_frames_resume(w->frames);
	assert_int_equal(w->rooms, 1);
	assert_int_equal(mt_frames_room(w->frames), MT_FRAMES_QUEUE_MAX);
	assert_int_equal(w->out_len, MT_FRAMES_QUEUE_MAX * 6);
	for (uint32_t i = 0; i < MT_FRAMES_QUEUE_MAX; i++) {
		uint32_t number = i + 10;

		assert_memory_equal(w->out + i * 6 + 2, &number, sizeof(number));
	}
	mt_frames_resume(w->frames);
	assert_int_equal(w->rooms, 1);
}

/* Who needs more than one place hears of it as well. */
static void test_want_room_with_some_left(void **state)
{
	struct world *w = *state;

	for (uint32_t i = 0; i < MT_FRAMES_QUEUE_MAX - 1; i++) {
		assert_int_equal(mt_frames_send(w->frames, &i, sizeof(i), NULL, 0), 0);
	}
	assert_int_equal(mt_frames_room(w->frames), 1);
	mt_frames_want_room(w->frames);
	w->room = sizeof(w->out);
	mt_frames_resume(w->frames);
	assert_int_equal(w->rooms, 1);
	mt_frames_resume(w->frames);
	assert_int_equal(w->rooms, 1);
}

static void test_send_bytes_are_bounded_too(void **state)
{
	static uint8_t data[60000];
	struct world *w = *state;

	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(mt_frames_send(w->frames, data, sizeof(data), NULL, 0), 0);
		assert_true(mt_mem_used(w->mem) < MT_FRAMES_QUEUE_BYTES + 10000);
	}
	assert_int_equal(mt_frames_room(w->frames), 0);
	assert_true(mt_frames_stats(w->frames)->dropped > 90);
}

static void test_send_to_ended_carrier(void **state)
{
	struct world *w = *state;

	assert_int_equal(mt_frames_send(w->frames, "a", 1, NULL, 0), 0); /* queued */
	w->error = MT_E_CLOSED;
	mt_frames_resume(w->frames);
	assert_int_equal(mt_frames_send(w->frames, "a", 1, NULL, 0), MT_E_CLOSED);
	assert_int_equal(mt_frames_stats(w->frames)->dropped, 2);
}

static void test_receive_in_pieces(void **state)
{
	struct world *w = *state;

	mt_frames_receive(w->frames, (const uint8_t *)"\0\3a", 3);
	assert_int_equal(w->datagrams, 0);
	mt_frames_receive(w->frames, (const uint8_t *)"bc\0\0\0\1", 6);
	assert_int_equal(w->datagrams, 2);
	mt_frames_receive(w->frames, (const uint8_t *)"d", 1);
	assert_int_equal(w->datagrams, 3);
	assert_int_equal(w->last_len, 1);
	assert_int_equal(mt_frames_stats(w->frames)->received, 3);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_send_with_length_in_front),
		CASE(test_send_bounds),
		CASE(test_send_oldest_gives_way),
		CASE(test_want_room_with_some_left),
		CASE(test_send_bytes_are_bounded_too),
		CASE(test_send_to_ended_carrier),
		CASE(test_receive_in_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

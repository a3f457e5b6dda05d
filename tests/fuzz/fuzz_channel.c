/* links: proto/wire/channel.c proto/wire/bytes.c */
#include "proto/wire/channel.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct mt_channel_message *a, const struct mt_channel_message *b)
{
	assert(a->type == b->type && a->version == b->version);
	assert(a->capabilities == b->capabilities && a->max_streams == b->max_streams);
	assert(a->sent_ns == b->sent_ns && a->held_ns == b->held_ns && a->code == b->code);
	assert(a->session == b->session && a->max_sessions == b->max_sessions);
	assert(a->text_len == b->text_len);
	assert(a->text_len == 0 || memcmp(a->text, b->text, a->text_len) == 0);
}

/* Reads a stream of messages; what was understood reads the same after it was written again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	while (size > 0) {
		uint8_t buf[MT_CHANNEL_MESSAGE_MAX];
		struct mt_channel_message msg, again;
		size_t used = 0, len = 0, used_again = 0;
		int err = mt_channel_decode(&msg, &used, data, size);

		assert(err == 0 || err == MT_E_AGAIN || err == MT_E_MALFORMED);
		assert(err != MT_E_AGAIN || size < MT_CHANNEL_MESSAGE_MAX);
		if (err != 0) {
			return 0;
		}
		assert(used >= 3 && used <= size && used <= MT_CHANNEL_MESSAGE_MAX);
		for (size_t part = 0; part < used; part += 1 + part / 8) {
			assert(mt_channel_decode(&again, &used_again, data, part) == MT_E_AGAIN);
		}
		len = mt_channel_encode(buf, sizeof(buf), &msg);
		if (msg.type >= MT_CHANNEL_HELLO && msg.type <= MT_CHANNEL_SESSION_END) {
			assert(len >= 3 && len <= used);
			assert(mt_channel_decode(&again, &used_again, buf, len) == 0);
			assert(used_again == len);
			check_same(&msg, &again);
		} else {
			assert(len == 0);
		}
		data += used;
		size -= used;
	}
	return 0;
}

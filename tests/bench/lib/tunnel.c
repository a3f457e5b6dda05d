#include "tests/bench/lib/tunnel.h"

#include "proto/wire/request.h"
#include "tests/bench/lib/side.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAYLOAD_BYTES 1024u

struct tunnel {
	void (*done)(void *user, double ms);
	void *user;
	uint64_t begin_ns;
	size_t left; /* bytes still to come, the status first */
	bool has_status;
};

static void on_readable(struct mt_stream *s, void *user)
{
	struct tunnel *t = user;
	struct iovec iov;

	while (mt_stream_peek(s, &iov, 1) == 1) {
		if (!t->has_status && *(uint8_t *)iov.iov_base != 0) {
			fprintf(stderr, "the server answered %u\n", *(uint8_t *)iov.iov_base);
			exit(1);
		}
		t->has_status = true;
		t->left -= iov.iov_len < t->left ? iov.iov_len : t->left;
		mt_stream_consume(s, iov.iov_len);
	}
	if (t->left == 0) {
		mt_stream_send_fin(s);
	}
}

static void on_end(struct mt_stream *s, int err, void *user)
{
	struct tunnel *t = user;

	if (err != 0 || t->left > 0) {
		bench_die("a tunnel", err);
	}
	mt_stream_release(s, 0);
	t->done(t->user, (double)(uv_hrtime() - t->begin_ns) / 1e6);
	free(t);
}

static const struct mt_stream_handler handler = {.on_readable = on_readable, .on_end = on_end};

void bench_tunnel(struct mt_conn *conn, const struct mt_addr *target,
	void (*done)(void *user, double ms), void *user)
{
	static const uint8_t payload[PAYLOAD_BYTES];
	struct tunnel *t = calloc(1, sizeof(*t));
	uint8_t head[MT_REQUEST_MAX];
	char host[MT_ADDR_TEXT_MAX];
	struct mt_stream *s = NULL;
	size_t len;
	int err = t == NULL ? -ENOMEM : mt_conn_open_stream(conn, &s);

	if (err != 0) {
		bench_die("a tunnel", err);
	}
	(void)mt_addr_format_host(target, host, sizeof(host));
	len = mt_request_encode(head, sizeof(head), mt_addr_port(target), host, strlen(host));
	*t = (struct tunnel){
		.done = done, .user = user, .begin_ns = uv_hrtime(), .left = PAYLOAD_BYTES + 1};
	mt_stream_set_handler(s, &handler, t);
	err = mt_stream_send(s, head, len);
	if (err == 0) {
		err = mt_stream_send(s, payload, sizeof(payload));
	}
	if (err != 0) {
		bench_die("a tunnel's request", err);
	}
}

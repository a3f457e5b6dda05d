#include "client/carrier_quic.h"

#include "client/carrier_impl.h"
#include "proto/io/pump.h"

#include <errno.h>

struct quic_carrier {
	struct mt_carrier base; /* first */
	struct mt_stream *stream;
	struct mt_mem *mem;
};

struct quic_join {
	struct mt_join base; /* first */
	struct mt_pump *pump;
};

static void on_readable(struct mt_stream *s, void *user)
{
	(void)s;
	mt_carrier_tell_readable(user);
}

static void on_writable(struct mt_stream *s, void *user)
{
	(void)s;
	mt_carrier_tell_writable(user);
}

static void on_cut(struct mt_stream *s, uint64_t app_code, void *user)
{
	(void)s;
	mt_carrier_tell_cut(user, app_code);
}

static void on_end(struct mt_stream *s, int err, void *user)
{
	(void)s;
	mt_carrier_tell_end(user, err);
}

static const struct mt_stream_handler handler = {
	.on_readable = on_readable,
	.on_writable = on_writable,
	.on_reset = on_cut,
	.on_stop = on_cut,
	.on_end = on_end,
};

static struct mt_stream *stream_of(const struct mt_carrier *c)
{
	return ((const struct quic_carrier *)c)->stream;
}

static size_t readable(const struct mt_carrier *c)
{
	return mt_stream_readable(stream_of(c));
}

static size_t peek(const struct mt_carrier *c, struct iovec *iov, size_t max)
{
	return mt_stream_peek(stream_of(c), iov, max);
}

static void consume(struct mt_carrier *c, size_t len)
{
	mt_stream_consume(stream_of(c), len);
}

static bool fin_received(const struct mt_carrier *c)
{
	return mt_stream_fin_received(stream_of(c));
}

static size_t send_space(const struct mt_carrier *c)
{
	return mt_stream_send_space(stream_of(c));
}

static int send_bytes(struct mt_carrier *c, const void *data, size_t len)
{
	return mt_stream_send(stream_of(c), data, len);
}

static void send_fin(struct mt_carrier *c)
{
	mt_stream_send_fin(stream_of(c));
}

static void free_carrier(struct mt_carrier *c)
{
	mt_mem_release(((struct quic_carrier *)c)->mem, c);
}

static void release(struct mt_carrier *c, uint64_t app_code)
{
	mt_stream_release(stream_of(c), app_code);
	free_carrier(c);
}

static void on_pump_end(struct mt_pump *pump, const struct mt_pump_result *result, void *user)
{
	struct quic_join *join = user;

	(void)pump; /* freed right afterwards */
	(void)result;
	join->base.config.on_end(&join->base, join->base.config.user);
	mt_mem_release(join->base.config.mem, join);
}

static void cancel_join(struct mt_join *base, uint64_t app_code)
{
	struct quic_join *join = (struct quic_join *)base;

	mt_pump_cancel(join->pump, app_code);
	mt_mem_release(base->config.mem, join);
}

static int start_join(
	struct mt_join **out, struct mt_carrier *c, const struct mt_join_config *config)
{
	struct quic_join *join = mt_mem_calloc(config->mem, sizeof(*join));
	struct mt_pump_config pump = {
		.poller = config->poller,
		.stream = stream_of(c),
		.fd = config->fd,
		.on_end = on_pump_end,
		.user = join,
		.mem = config->mem,
	};
	int err;

	if (join == NULL) {
		return -ENOMEM;
	}
	join->base.cancel = cancel_join;
	join->base.config = *config;
	err = mt_pump_start(&join->pump, &pump);
	if (err < 0) {
		mt_mem_release(config->mem, join);
		return err;
	}
	free_carrier(c);
	*out = &join->base;
	return 0;
}

static const struct mt_carrier_ops ops = {
	.readable = readable,
	.peek = peek,
	.consume = consume,
	.fin_received = fin_received,
	.send_space = send_space,
	.send = send_bytes,
	.send_fin = send_fin,
	.release = release,
	.join = start_join,
};

int mt_carrier_open_quic(struct mt_carrier **out, struct mt_conn *conn, struct mt_mem *mem)
{
	struct quic_carrier *c = mt_mem_calloc(mem, sizeof(*c));
	int err;

	if (c == NULL) {
		return -ENOMEM;
	}
	c->base.ops = &ops;
	c->mem = mem;
	err = mt_conn_open_stream(conn, &c->stream);
	if (err < 0) {
		mt_mem_release(mem, c);
		return err;
	}
	mt_stream_set_handler(c->stream, &handler, c);
	*out = &c->base;
	return 0;
}

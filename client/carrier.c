#include "client/carrier.h"

#include "client/carrier_impl.h"

void mt_carrier_set_handler(
	struct mt_carrier *c, const struct mt_carrier_handler *handler, void *user)
{
	c->handler = handler == NULL ? (struct mt_carrier_handler){0} : *handler;
	c->user = user;
}

size_t mt_carrier_readable(const struct mt_carrier *c)
{
	return c->ops->readable(c);
}

size_t mt_carrier_peek(const struct mt_carrier *c, struct iovec *iov, size_t max)
{
	return c->ops->peek(c, iov, max);
}

void mt_carrier_consume(struct mt_carrier *c, size_t len)
{
	c->ops->consume(c, len);
}

bool mt_carrier_fin_received(const struct mt_carrier *c)
{
	return c->ops->fin_received(c);
}

size_t mt_carrier_send_space(const struct mt_carrier *c)
{
	return c->ops->send_space(c);
}

int mt_carrier_send(struct mt_carrier *c, const void *data, size_t len)
{
	return c->ops->send(c, data, len);
}

void mt_carrier_send_fin(struct mt_carrier *c)
{
	c->ops->send_fin(c);
}

void mt_carrier_release(struct mt_carrier *c, uint64_t app_code)
{
	if (c != NULL) {
		c->ops->release(c, app_code);
	}
}

int mt_carrier_join(struct mt_join **out, struct mt_carrier *c, const struct mt_join_config *config)
{
	return c->ops->join(out, c, config);
}

void mt_join_cancel(struct mt_join *join, uint64_t app_code)
{
	join->cancel(join, app_code);
}

void mt_carrier_tell_readable(struct mt_carrier *c)
{
	if (c->handler.on_readable != NULL) {
		c->handler.on_readable(c, c->user);
	}
}

void mt_carrier_tell_writable(struct mt_carrier *c)
{
	if (c->handler.on_writable != NULL) {
		c->handler.on_writable(c, c->user);
	}
}

void mt_carrier_tell_cut(struct mt_carrier *c, uint64_t app_code)
{
	if (c->handler.on_cut != NULL) {
		c->handler.on_cut(c, app_code, c->user);
	}
}

void mt_carrier_tell_end(struct mt_carrier *c, int err)
{
	if (c->handler.on_end != NULL) {
		c->handler.on_end(c, err, c->user);
	}
}

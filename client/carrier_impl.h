/* The insides of carriers, shared by carrier*.c only. */
#pragma once

#include "client/carrier.h"

/* What a transport does; each function as its namesake in carrier.h. */
struct mt_carrier_ops {
	size_t (*readable)(const struct mt_carrier *c);
	size_t (*peek)(const struct mt_carrier *c, struct iovec *iov, size_t max);
	void (*consume)(struct mt_carrier *c, size_t len);
	bool (*fin_received)(const struct mt_carrier *c);
	size_t (*send_space)(const struct mt_carrier *c);
	int (*send)(struct mt_carrier *c, const void *data, size_t len);
	void (*send_fin)(struct mt_carrier *c);
	void (*release)(struct mt_carrier *c, uint64_t app_code);
	int (*join)(
		struct mt_join **out, struct mt_carrier *c, const struct mt_join_config *config);
};

struct mt_carrier { /* first in what a transport makes of it */
	const struct mt_carrier_ops *ops;
	struct mt_carrier_handler handler;
	void *user;
};

struct mt_join { /* likewise */
	void (*cancel)(struct mt_join *join, uint64_t app_code);
	struct mt_join_config config;
};

/* Tell the user, as far as it listens. It may release the carrier. */
void mt_carrier_tell_readable(struct mt_carrier *c);
void mt_carrier_tell_writable(struct mt_carrier *c);
void mt_carrier_tell_cut(struct mt_carrier *c, uint64_t app_code);
void mt_carrier_tell_end(struct mt_carrier *c, int err);

/* One request: who asks, what for, and the answer. The callbacks of libmicrohttpd. */
#pragma once

#include "proto/wire/addr.h"
#include "web/http.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* What requests of one bound address need. */
/* Another host by which the endpoint is called, which may change while it runs. */
struct mt_web_name {
	pthread_mutex_t lock;
	char text[256]; /* may be empty */
};

struct mt_web_site {
	struct MHD_Daemon *daemon;
	const struct mt_web_view *view;
	struct mt_hub *hub;
	struct mt_hub_user *user;
	struct mt_addr addr;
	char local[MT_ADDR_TEXT_MAX];
	struct mt_web_name *name; /* borrowed */
	bool secured;
	uint8_t token[MT_TOKEN_HASH_LEN];
};

/* `user` is the site. */
enum MHD_Result mt_web_on_request(void *user, struct MHD_Connection *c, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_len,
	void **request);
void mt_web_on_completed(
	void *user, struct MHD_Connection *c, void **request, enum MHD_RequestTerminationCode how);

#include "daemon/http.h"
#include "daemon/log.h"
#include "daemon/verbs.h"
#include "proto/wire/encode.h"

#include <errno.h>
#include <sys/random.h>

#define TOKEN_BYTES 32

static void refuse(struct mt_appliance *a, struct mt_reply *reply, int rv)
{
	mt_reply_failure(reply, rv, rv == MT_E_STORE ? mt_store_error(a->store) : mt_strerror(rv),
		"mytunnelctl doctor");
}

void mt_verb_token_create(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	uint8_t random[TOKEN_BYTES];
	uint8_t hash[MT_TOKEN_HASH_LEN];
	char text[MT_BASE64URL_LEN(TOKEN_BYTES) + 1];
	json_t *result = NULL;
	int rv;

	(void)args;
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
		refuse(a, reply, -EIO);
		return;
	}
	mt_base64url_encode(text, random, sizeof(random));
	mt_token_hash(text, hash);
	result = json_pack("{s:s}", "token", text);
	rv = result != NULL ? mt_store_secret_put(a->store, MT_HTTP_TOKEN, hash) : -ENOMEM;
	mt_wipe(random, sizeof(random));
	mt_wipe(text, sizeof(text));
	if (rv != 0) {
		json_decref(result);
		refuse(a, reply, rv);
		return;
	}
	mt_http_renew(a);
	mt_log(MT_LOG_INFO, "http_token_created");
	mt_events_add(&a->events, "http_token_created", json_object());
	mt_reply_result(reply, result);
}

void mt_verb_token_remove(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	uint8_t hash[MT_TOKEN_HASH_LEN];
	int rv = mt_store_secret_get(a->store, MT_HTTP_TOKEN, hash);

	(void)args;
	mt_wipe(hash, sizeof(hash));
	if (rv == MT_E_NOT_FOUND) {
		mt_reply_error(reply, "not_found", "there is no token", "mytunnelctl token create");
		return;
	}
	if (rv == 0 && mt_http_needs_token(&a->settings)) {
		mt_reply_error(reply, "invalid",
			"the HTTP endpoint needs it: metrics.bind_addr is not loopback; the token "
			"stays",
			"mytunnelctl reset metrics.bind_addr");
		return;
	}
	rv = rv == 0 ? mt_store_secret_put(a->store, MT_HTTP_TOKEN, NULL) : rv;
	if (rv != 0) {
		refuse(a, reply, rv);
		return;
	}
	mt_log(MT_LOG_INFO, "http_token_removed");
	mt_events_add(&a->events, "http_token_removed", json_object());
	mt_reply_result(reply, json_object());
}

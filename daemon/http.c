#include "daemon/http.h"

#include "daemon/appliance.h"
#include "daemon/log.h"
#include "proto/wire/encode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool mt_http_needs_token(const struct mt_settings *settings)
{
	struct mt_addr addrs[MT_SETTING_ADDRS_MAX];
	size_t count =
		mt_settings_addrs(settings, MT_SET_METRICS_BIND_ADDR, addrs, MT_SETTING_ADDRS_MAX);

	for (size_t i = 0; i < count; i++) {
		if (!mt_addr_is_loopback(&addrs[i])) {
			return true;
		}
	}
	return false;
}

int mt_http_check(
	struct mt_store *store, const struct mt_settings *settings, char *why, size_t why_cap)
{
	uint8_t token[MT_TOKEN_HASH_LEN];
	int rv;

	if (!mt_http_needs_token(settings)) {
		return 0;
	}
	rv = mt_store_secret_get(store, MT_HTTP_TOKEN, token);
	mt_wipe(token, sizeof(token));
	if (rv == MT_E_NOT_FOUND) {
		(void)snprintf(why, why_cap,
			"metrics.bind_addr %s is not loopback, and off loopback a token is asked "
			"for: make one with 'mytunnelctl token create' first",
			mt_settings_text(settings, MT_SET_METRICS_BIND_ADDR));
		return MT_E_DENIED;
	}
	if (rv != 0) {
		(void)snprintf(why, why_cap, "%s",
			mt_store_error(store)); /* for people: cut when too long */
	}
	return rv;
}

/* The host of "HOST", "HOST:PORT" or "[ADDRESS]:PORT". */
static void public_host(const struct mt_settings *settings, char *out, size_t cap)
{
	const char *text = mt_settings_text(settings, MT_SET_SERVER_PUBLIC_ADDR);
	const char *colon = strchr(text, ':');
	size_t len = strlen(text);

	if (*text == '[') {
		len = strcspn(text, "]") + 1;
	} else if (colon != NULL && strchr(colon + 1, ':') == NULL) {
		len = (size_t)(colon - text);
	}
	(void)snprintf(out, cap, "%.*s", (int)len, text); /* the setting is checked */
}

struct secrets {
	char *chain;
	char *key;
};

static void free_secrets(struct secrets *s)
{
	free(s->chain);
	if (s->key != NULL) {
		mt_wipe(s->key, strlen(s->key));
		free(s->key);
	}
	*s = (struct secrets){NULL, NULL};
}

/* What an endpoint off loopback needs: the imported certificate, else the appliance's. */
static int secure(struct mt_store *store, struct mt_web_config *config, struct secrets *s,
	char *why, size_t why_cap)
{
	int rv = mt_store_secret_get(store, MT_HTTP_TOKEN, config->token);

	if (rv == 0) {
		rv = mt_store_cert_get(store, MT_CERT_IMPORTED, &s->chain, &s->key);
		if (rv == MT_E_NOT_FOUND) {
			rv = mt_store_cert_get(store, MT_CERT_SERVER, &s->chain, &s->key);
		}
	}
	if (rv != 0) {
		(void)snprintf(why, why_cap, "HTTP lacks its token or certificate: %s",
			mt_store_error(store)); /* for people: cut when too long */
		return rv;
	}
	config->chain_pem = s->chain;
	config->key_pem = s->key;
	return 0;
}

static int start(struct mt_appliance *a, const struct mt_settings *settings, struct mt_store *store,
	struct mt_web **out, char *why, size_t why_cap)
{
	struct mt_addr addrs[MT_SETTING_ADDRS_MAX];
	struct mt_web_config config = {.addrs = addrs,
		.count = mt_settings_addrs(
			settings, MT_SET_METRICS_BIND_ADDR, addrs, MT_SETTING_ADDRS_MAX),
		.view = &a->view,
		.hub = a->hub};
	struct secrets secrets = {NULL, NULL};
	char host[256];
	char text[MT_ADDR_TEXT_MAX] = "metrics.bind_addr";
	size_t failed = 0;
	int rv = mt_http_check(store, settings, why, why_cap);

	if (rv != 0) {
		return rv;
	}
	if (!mt_settings_bool(settings, MT_SET_METRICS_ENABLED) || config.count == 0) {
		*out = NULL;
		return 0;
	}
	public_host(settings, host, sizeof(host));
	config.name = host;
	if (mt_http_needs_token(settings)) {
		rv = secure(store, &config, &secrets, why, why_cap);
		if (rv != 0) {
			goto out;
		}
	}
	rv = mt_web_start(out, &config, &failed);
	if (rv != 0) {
		if (failed < config.count) {
			(void)mt_addr_format(&addrs[failed], text, sizeof(text));
		}
		(void)snprintf(why, why_cap,
			"HTTP cannot listen on %s: %s (choose another address: mytunnelctl set "
			"metrics.bind_addr)",
			text, mt_strerror(rv));
	}
out:
	free_secrets(&secrets);
	mt_wipe(config.token, sizeof(config.token));
	return rv;
}

/* Whether the endpoint that runs listens on a port that `settings` name. */
static bool has_port(const struct mt_appliance *a, const struct mt_settings *settings)
{
	struct mt_addr wanted[MT_SETTING_ADDRS_MAX];
	struct mt_addr own[MT_SETTING_ADDRS_MAX];
	size_t count =
		mt_settings_addrs(settings, MT_SET_METRICS_BIND_ADDR, wanted, MT_SETTING_ADDRS_MAX);
	size_t own_count = mt_web_addrs(a->web, own, MT_SETTING_ADDRS_MAX);

	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; j < own_count; j++) {
			if (mt_addr_port(&wanted[i]) == mt_addr_port(&own[j])) {
				return true;
			}
		}
	}
	return false;
}

int mt_http_swap(struct mt_appliance *a, const struct mt_settings *settings, struct mt_store *store,
	char *why, size_t why_cap)
{
	struct mt_web *web = NULL;
	char ignored[MT_WHY_MAX];
	int rv = start(a, settings, store, &web, why, why_cap);

	if (rv == -EADDRINUSE && has_port(a, settings)) {
		/* Our own old endpoint is in the way. */
		mt_web_stop(a->web);
		a->web = NULL;
		rv = start(a, settings, store, &web, why, why_cap);
		if (rv != 0 &&
			start(a, &a->settings, a->store, &a->web, ignored, sizeof(ignored)) != 0) {
			(void)snprintf(a->facts.http_problem, sizeof(a->facts.http_problem),
				"%.255s", ignored);
		}
	}
	if (rv == 0) {
		mt_web_stop(a->web);
		a->web = web;
		a->facts.http_problem[0] = '\0';
	}
	mt_appliance_post_facts(a);
	return rv;
}

void mt_http_rename(struct mt_appliance *a)
{
	char host[256];

	public_host(&a->settings, host, sizeof(host));
	mt_web_set_name(a->web, host);
}

void mt_http_try(struct mt_appliance *a)
{
	struct mt_addr addrs[MT_SETTING_ADDRS_MAX];
	char text[MT_ADDR_TEXT_MAX];
	char why[MT_WHY_MAX];
	int rv = start(a, &a->settings, a->store, &a->web, why, sizeof(why));
	size_t count;

	if (rv != 0) {
		if (a->facts.http_problem[0] == '\0') {
			mt_log(MT_LOG_WARN, "http_failed", MT_LOG_TEXT("problem", why),
				MT_LOG_TEXT("next", "mytunnelctl set metrics.bind_addr"));
		}
		(void)snprintf(a->facts.http_problem, sizeof(a->facts.http_problem), "%.255s", why);
		return;
	}
	a->facts.http_problem[0] = '\0';
	count = mt_web_addrs(a->web, addrs, MT_SETTING_ADDRS_MAX);
	for (size_t i = 0; i < count; i++) {
		mt_log(MT_LOG_INFO, "listening",
			MT_LOG_TEXT("protocol", mt_web_is_secured(a->web) ? "https" : "http"),
			MT_LOG_TEXT("address", mt_addr_format(&addrs[i], text, sizeof(text))));
	}
}

void mt_http_renew(struct mt_appliance *a)
{
	if (!mt_web_is_secured(a->web)) {
		return;
	}
	mt_web_stop(a->web);
	a->web = NULL;
	mt_http_try(a);
	mt_appliance_post_facts(a);
}

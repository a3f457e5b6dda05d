#include "web/http.h"

#include "web/assets.h"
#include "web/metrics.h"
#include "web/origin.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 64

/* One bound address. */
struct site {
	struct MHD_Daemon *daemon;
	const struct mt_web_view *view;
	struct mt_addr addr;
	char local[MT_ADDR_TEXT_MAX];
};

struct mt_web {
	size_t count;
	struct site sites[MT_WEB_ADDRS_MAX];
};

struct page {
	unsigned status;
	const char *type;
	char *body; /* for free() */
	size_t len;
	const struct mt_web_asset *asset; /* instead of a body */
	bool compressed;
};

static void set_text(struct page *p, unsigned status, const char *text)
{
	p->status = status;
	p->type = "text/plain; charset=utf-8";
	p->body = strdup(text);
	p->len = p->body != NULL ? strlen(p->body) : 0;
}

static void make_metrics(struct page *p, const struct mt_web_view *view)
{
	struct mt_exposition *e = mt_exposition_new();

	if (e == NULL) {
		return;
	}
	view->metrics(view->user, e);
	p->status = MHD_HTTP_OK;
	p->type = MT_WEB_METRICS_TYPE;
	p->body = mt_exposition_finish(e, &p->len);
}

static void make_health(struct page *p, const struct mt_web_view *view)
{
	bool ok = view->healthy(view->user);

	set_text(p, ok ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, ok ? "ok\n" : "degraded\n");
}

static void make_readiness(struct page *p, const struct mt_web_view *view)
{
	const char *word = view->readiness(view->user);
	char text[32];

	(void)snprintf(text, sizeof(text), "%s\n", word); /* our own short words */
	set_text(p, strcmp(word, "ready") == 0 ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, text);
}

/* Takes `text`. */
static void set_json(struct page *p, char *text)
{
	p->status = MHD_HTTP_OK;
	p->type = "application/json";
	p->body = text;
	p->len = text != NULL ? strlen(text) : 0;
}

static void make_status(struct page *p, const struct mt_web_view *view)
{
	set_json(p, view->status(view->user));
}

static void make_stats(struct page *p, const struct mt_web_view *view)
{
	set_json(p, view->stats(view->user));
}

/* A file of the dashboard, in the form that the client takes. */
static void set_asset(struct page *p, const struct mt_web_asset *asset, struct MHD_Connection *c)
{
	const char *known =
		MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_IF_NONE_MATCH);

	p->status = mt_web_etag_matches(known, asset->etag) ? MHD_HTTP_NOT_MODIFIED : MHD_HTTP_OK;
	p->type = asset->type;
	p->asset = asset;
	p->compressed = mt_web_accepts_gzip(
		MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT_ENCODING));
}

static const struct {
	const char *path;
	void (*make)(struct page *p, const struct mt_web_view *view);
} routes[] = {
	{"/metrics", make_metrics},
	{"/healthz", make_health},
	{"/readyz", make_readiness},
	{"/status", make_status},
	{"/stats", make_stats},
};

static void make_page(struct page *p, const struct site *site, struct MHD_Connection *c,
	const char *url, const char *method)
{
	const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
	const char *origin =
		MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_ORIGIN);
	const struct mt_web_asset *asset = mt_web_asset_find(url);

	if (!mt_web_host_allowed(host, site->local)) {
		set_text(p, MHD_HTTP_FORBIDDEN, "this Host is not served here\n");
		return;
	}
	if (!mt_web_origin_allowed(origin, site->local)) {
		set_text(p, MHD_HTTP_FORBIDDEN, "requests of other origins are refused\n");
		return;
	}
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
		set_text(p, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
		return;
	}
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (strcmp(url, routes[i].path) == 0) {
			routes[i].make(p, site->view);
			return;
		}
	}
	if (asset != NULL) {
		set_asset(p, asset, c);
		return;
	}
	set_text(p, MHD_HTTP_NOT_FOUND, "not found; there are /, /metrics, /healthz and /status\n");
}

static enum MHD_Result add_asset_headers(struct MHD_Response *response, const struct page *p)
{
	if (MHD_add_response_header(response, MHD_HTTP_HEADER_ETAG, p->asset->etag) != MHD_YES ||
		MHD_add_response_header(response, MHD_HTTP_HEADER_VARY, "Accept-Encoding") !=
			MHD_YES ||
		MHD_add_response_header(response, "Content-Security-Policy", MT_WEB_ASSET_POLICY) !=
			MHD_YES ||
		MHD_add_response_header(response, "Referrer-Policy", "no-referrer") != MHD_YES) {
		return MHD_NO;
	}
	return p->compressed
		       ? MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_ENCODING, "gzip")
		       : MHD_YES;
}

static enum MHD_Result add_headers(struct MHD_Response *response, const struct page *p)
{
	if (p->asset != NULL && add_asset_headers(response, p) != MHD_YES) {
		return MHD_NO;
	}
	if (MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, p->type) != MHD_YES ||
		MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL,
			p->asset != NULL ? "no-cache" : "no-store") != MHD_YES ||
		MHD_add_response_header(response, "X-Content-Type-Options", "nosniff") != MHD_YES) {
		return MHD_NO;
	}
	if (p->status == MHD_HTTP_METHOD_NOT_ALLOWED) {
		return MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	}
	return MHD_YES;
}

/* NULL without memory; takes the body of `p`. */
static struct MHD_Response *make_response(const struct page *p)
{
	struct MHD_Response *response;

	if (p->asset != NULL) {
		struct mt_web_bytes bytes = p->compressed ? p->asset->gzip : p->asset->plain;

		if (p->status == MHD_HTTP_NOT_MODIFIED) {
			bytes.len = 0;
		}
		return MHD_create_response_from_buffer(
			bytes.len, (void *)(uintptr_t)bytes.data, MHD_RESPMEM_PERSISTENT);
	}
	if (p->body == NULL) {
		return NULL;
	}
	response = MHD_create_response_from_buffer(p->len, p->body, MHD_RESPMEM_MUST_FREE);
	if (response == NULL) {
		free(p->body);
	}
	return response;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *c, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_len,
	void **request)
{
	static const char seen = 0;
	struct page p = {.status = MHD_HTTP_INTERNAL_SERVER_ERROR};
	struct MHD_Response *response;
	enum MHD_Result rv = MHD_NO;

	(void)version;
	(void)upload;
	/* The first call comes before a body. Answering a request that has one at this point would
	 * leave the body to be taken for the next request.
	 */
	if (*request == NULL) {
		*request = (void *)(uintptr_t)&seen;
		return MHD_YES;
	}
	if (*upload_len > 0) {
		*upload_len = 0; /* bodies are read past: no page takes one */
		return MHD_YES;
	}
	make_page(&p, user, c, url, method);
	response = make_response(&p);
	if (response == NULL) {
		return MHD_NO; /* out of memory: the connection is closed */
	}
	if (add_headers(response, &p) == MHD_YES) {
		rv = MHD_queue_response(c, p.status, response);
	}
	MHD_destroy_response(response);
	return rv;
}

/* libmicrohttpd prints to standard error otherwise, in lines of its own shape. */
static void ignore_log(void *user, const char *format, va_list args)
{
	(void)user;
	(void)format;
	(void)args;
}

static int open_socket(const struct mt_addr *addr, struct mt_addr *local)
{
	int on = 1;
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);
	int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rv = 0;

	if (fd < 0) {
		return -errno;
	}
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
		(addr->sa.sa_family == AF_INET6 &&
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0) ||
		bind(fd, &addr->sa, addr->len) != 0 || listen(fd, BACKLOG) != 0 ||
		getsockname(fd, (struct sockaddr *)&name, &len) != 0) {
		rv = -errno;
	} else {
		rv = mt_addr_from_sockaddr(local, (struct sockaddr *)&name, len);
	}
	if (rv != 0) {
		(void)close(fd); /* nothing was written */
		return rv;
	}
	return fd;
}

static int start_site(struct site *site, const struct mt_addr *addr, const struct mt_web_view *view)
{
	int fd = open_socket(addr, &site->addr);

	if (fd < 0) {
		return fd;
	}
	site->view = view;
	(void)mt_addr_format(&site->addr, site->local, sizeof(site->local));
	/* The strict mode refuses requests with conflicting lengths instead of guessing. The daemon
	 * owns the socket then. */
	site->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG, 0, NULL,
		NULL, on_request, site, MHD_OPTION_EXTERNAL_LOGGER, ignore_log, NULL,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned)MT_WEB_CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		(unsigned)MT_WEB_PER_IP_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned)MT_WEB_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)MT_WEB_MEMORY_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	if (site->daemon == NULL) {
		(void)close(fd); /* nothing was written */
		return -ENOMEM;
	}
	return 0;
}

int mt_web_start(struct mt_web **out, const struct mt_addr *addrs, size_t count,
	const struct mt_web_view *view, size_t *failed)
{
	struct mt_web *web;

	if (count > MT_WEB_ADDRS_MAX) {
		*failed = MT_WEB_ADDRS_MAX;
		return MT_E_LIMIT;
	}
	web = calloc(1, sizeof(*web));
	if (web == NULL) {
		*failed = 0;
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++) {
		int rv = start_site(&web->sites[i], &addrs[i], view);

		if (rv != 0) {
			*failed = i;
			mt_web_stop(web);
			return rv;
		}
		web->count++;
	}
	*out = web;
	return 0;
}

void mt_web_stop(struct mt_web *web)
{
	if (web == NULL) {
		return;
	}
	for (size_t i = 0; i < web->count; i++) {
		MHD_stop_daemon(web->sites[i].daemon); /* closes the listening socket too */
	}
	free(web);
}

size_t mt_web_addrs(const struct mt_web *web, struct mt_addr *out, size_t cap)
{
	size_t n = 0;

	for (; web != NULL && n < web->count && n < cap; n++) {
		out[n] = web->sites[n].addr;
	}
	return n;
}

#include "web/request.h"

#include "web/assets.h"
#include "web/listing.h"
#include "web/metrics.h"
#include "web/origin.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define STREAM_BLOCK 4096

/* What is kept of a request between the calls for it. */
struct request {
	bool waited; /* for a picture */
	struct mt_hub_reader *reader;
};

struct page {
	unsigned status;
	const char *type;
	char *body; /* for free() */
	size_t len;
	const struct mt_web_asset *asset; /* instead of a body */
	bool compressed;
	struct mt_hub_reader *stream; /* instead of a body; the request's */
	bool suspended;               /* no answer yet */
};

struct route;
/* Everything that a page is made of. */
struct context {
	const struct mt_web_site *site;
	struct MHD_Connection *connection;
	struct request *request;
	const struct route *route;
};

static const char *header(struct MHD_Connection *c, const char *name)
{
	return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

static void set_text(struct page *p, unsigned status, const char *text)
{
	p->status = status;
	p->type = "text/plain; charset=utf-8";
	p->body = strdup(text);
	p->len = p->body != NULL ? strlen(p->body) : 0;
}

/* Takes `text`. */
static void set_json(struct page *p, unsigned status, char *text)
{
	p->status = status;
	p->type = "application/json";
	p->body = text;
	p->len = text != NULL ? strlen(text) : 0;
}

static void set_error(struct page *p, unsigned status, const char *code, const char *message)
{
	json_t *o = json_pack(
		"{s:i, s:{s:s, s:s}}", "schema", 1, "error", "code", code, "message", message);

	set_json(p, status, o != NULL ? json_dumps(o, JSON_COMPACT) : NULL);
	json_decref(o);
}

/* ---- pages ---- */

struct route {
	const char *path;
	void (*make)(struct page *p, const struct context *x);
	enum mt_web_listing listing;
};

static void make_metrics(struct page *p, const struct context *x)
{
	struct mt_exposition *e = mt_exposition_new();

	if (e == NULL) {
		return;
	}
	x->site->view->metrics(x->site->view->user, e);
	mt_hub_metrics(x->site->hub, e);
	p->status = MHD_HTTP_OK;
	p->type = MT_WEB_METRICS_TYPE;
	p->body = mt_exposition_finish(e, &p->len);
}

static void make_health(struct page *p, const struct context *x)
{
	bool ok = x->site->view->healthy(x->site->view->user);

	set_text(p, ok ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, ok ? "ok\n" : "degraded\n");
}

static void make_readiness(struct page *p, const struct context *x)
{
	const char *word = x->site->view->readiness(x->site->view->user);
	char text[32];

	(void)snprintf(text, sizeof(text), "%s\n", word); /* our own short words */
	set_text(p, strcmp(word, "ready") == 0 ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, text);
}

static void make_status(struct page *p, const struct context *x)
{
	set_json(p, MHD_HTTP_OK, x->site->view->status(x->site->view->user));
}

static void make_stats(struct page *p, const struct context *x)
{
	set_json(p, MHD_HTTP_OK, x->site->view->stats(x->site->view->user));
}

struct taking {
	struct mt_listing_query query;
	const char *why; /* NULL: good so far */
};

static enum MHD_Result take_parameter(
	void *user, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct taking *t = user;

	(void)kind;
	if (mt_listing_take(&t->query, name, value, &t->why) != 0) {
		return MHD_NO;
	}
	t->why = NULL;
	return MHD_YES;
}

static void make_listing(struct page *p, const struct context *x)
{
	struct taking t = {.why = NULL};
	struct mt_hub_rows *rows = NULL;

	mt_listing_begin(&t.query, x->route->listing);
	/* How many there are does not matter. */
	(void)MHD_get_connection_values(x->connection, MHD_GET_ARGUMENT_KIND, take_parameter, &t);
	if (t.why != NULL) {
		set_error(p, MHD_HTTP_BAD_REQUEST, "bad_request", t.why);
		return;
	}
	switch (mt_hub_get(x->site->hub, x->site->user, x->connection, x->site->view,
		x->route->listing, x->request->waited, &rows)) {
	case MT_HUB_WAIT:
		x->request->waited = true;
		p->suspended = true;
		break;
	case MT_HUB_READY:
		set_json(p, MHD_HTTP_OK, mt_listing_format(&t.query, rows->rows, rows->count));
		mt_hub_put(x->site->hub, rows);
		break;
	case MT_HUB_REFUSED:
		set_error(p, MHD_HTTP_SERVICE_UNAVAILABLE, "busy",
			"too many ask at once, or the server is stopping");
		break;
	}
}

static void make_stream(struct page *p, const struct context *x)
{
	if (mt_hub_reader_new(&x->request->reader, x->site->hub, x->site->user, x->connection,
		    header(x->connection, "Last-Event-ID")) != 0) {
		set_error(p, MHD_HTTP_SERVICE_UNAVAILABLE, "busy",
			"there are as many readers of /events as there may be");
		return;
	}
	p->status = MHD_HTTP_OK;
	p->type = "text/event-stream";
	p->stream = x->request->reader;
}

static const struct route routes[] = {
	{"/metrics", make_metrics, 0},
	{"/healthz", make_health, 0},
	{"/readyz", make_readiness, 0},
	{"/status", make_status, 0},
	{"/stats", make_stats, 0},
	{"/connections", make_listing, MT_WEB_CONNECTIONS},
	{"/clients", make_listing, MT_WEB_CLIENTS},
	{"/events", make_stream, 0},
};

/* A file of the dashboard, in the form that the client takes. */
static void set_asset(struct page *p, const struct mt_web_asset *asset, struct MHD_Connection *c)
{
	p->status = mt_web_etag_matches(header(c, MHD_HTTP_HEADER_IF_NONE_MATCH), asset->etag)
			    ? MHD_HTTP_NOT_MODIFIED
			    : MHD_HTTP_OK;
	p->type = asset->type;
	p->asset = asset;
	p->compressed = mt_web_accepts_gzip(header(c, MHD_HTTP_HEADER_ACCEPT_ENCODING));
}

/* ---- who asks ---- */

/* Headers that must not come twice: which of them counts would be a matter of opinion. */
static const char *const single[] = {MHD_HTTP_HEADER_HOST, MHD_HTTP_HEADER_ORIGIN,
	MHD_HTTP_HEADER_AUTHORIZATION, MHD_HTTP_HEADER_CONTENT_LENGTH,
	MHD_HTTP_HEADER_TRANSFER_ENCODING};

#define SINGLES (sizeof(single) / sizeof(single[0]))

static enum MHD_Result count_header(
	void *user, enum MHD_ValueKind kind, const char *name, const char *value)
{
	unsigned *counts = user;

	(void)kind;
	(void)value;
	for (size_t i = 0; i < SINGLES; i++) {
		counts[i] += strcasecmp(name, single[i]) == 0;
	}
	return MHD_YES;
}

static bool is_ambiguous(struct MHD_Connection *c)
{
	unsigned counts[SINGLES] = {0};

	(void)MHD_get_connection_values(
		c, MHD_HEADER_KIND, count_header, counts); /* how many in all does not matter */
	for (size_t i = 0; i < SINGLES; i++) {
		if (counts[i] > 1) {
			return true;
		}
	}
	return counts[3] + counts[4] > 1; /* the two ways to say a body's length */
}

/* Whether the request may be answered; else `p` says why not. */
static bool admit(struct page *p, const struct context *x, const char *method)
{
	const struct mt_web_site *site = x->site;
	struct MHD_Connection *c = x->connection;
	char name[sizeof(site->name->text)];

	(void)pthread_mutex_lock(&site->name->lock); /* held by nobody of this thread */
	memcpy(name, site->name->text, sizeof(name));
	(void)pthread_mutex_unlock(&site->name->lock); /* is held */
	if (is_ambiguous(c)) {
		set_error(p, MHD_HTTP_BAD_REQUEST, "bad_request", "a header comes twice");
		return false;
	}
	if (!mt_web_host_allowed(header(c, MHD_HTTP_HEADER_HOST), site->local, name)) {
		set_error(p, MHD_HTTP_FORBIDDEN, "forbidden", "this Host is not served here");
		return false;
	}
	if (!mt_web_origin_allowed(
		    header(c, MHD_HTTP_HEADER_ORIGIN), site->local, name, site->secured)) {
		set_error(p, MHD_HTTP_FORBIDDEN, "forbidden",
			"requests of other origins are refused");
		return false;
	}
	if (site->secured &&
		!mt_token_accepts(header(c, MHD_HTTP_HEADER_AUTHORIZATION), site->token)) {
		set_error(p, MHD_HTTP_UNAUTHORIZED, "unauthorized",
			"a token is needed: mytunnelctl token create makes one");
		return false;
	}
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
		set_error(
			p, MHD_HTTP_METHOD_NOT_ALLOWED, "method_not_allowed", "only GET and HEAD");
		return false;
	}
	return true;
}

static void make_page(struct page *p, struct context *x, const char *url, const char *method)
{
	const struct mt_web_asset *asset;

	if (!admit(p, x, method)) {
		return;
	}
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (strcmp(url, routes[i].path) == 0) {
			x->route = &routes[i];
			routes[i].make(p, x);
			return;
		}
	}
	asset = mt_web_asset_find(url);
	if (asset != NULL) {
		set_asset(p, asset, x->connection);
		return;
	}
	set_error(p, MHD_HTTP_NOT_FOUND, "not_found",
		"there are /, /metrics, /status, /connections, /clients, /stats, /events, /healthz "
		"and /readyz");
}

/* ---- the answer ---- */

static bool add(struct MHD_Response *response, const char *name, const char *value)
{
	return MHD_add_response_header(response, name, value) == MHD_YES;
}

static bool add_headers(struct MHD_Response *response, const struct page *p)
{
	bool good = add(response, MHD_HTTP_HEADER_CONTENT_TYPE, p->type) &&
		    add(response, MHD_HTTP_HEADER_CACHE_CONTROL,
			    p->asset != NULL ? "no-cache" : "no-store") &&
		    add(response, "X-Content-Type-Options", "nosniff") &&
		    add(response, "Referrer-Policy", "no-referrer") &&
		    add(response, "Content-Security-Policy",
			    p->asset != NULL ? MT_WEB_ASSET_POLICY
					     : "default-src 'none'; frame-ancestors 'none'");

	if (p->asset != NULL) {
		good = good && add(response, MHD_HTTP_HEADER_ETAG, p->asset->etag) &&
		       add(response, MHD_HTTP_HEADER_VARY, "Accept-Encoding");
	}
	if (p->compressed) {
		good = good && add(response, MHD_HTTP_HEADER_CONTENT_ENCODING, "gzip");
	}
	switch (p->status) {
	case MHD_HTTP_BAD_REQUEST: /* where the next request begins is not for sure */
		return good && add(response, MHD_HTTP_HEADER_CONNECTION, "close");
	case MHD_HTTP_METHOD_NOT_ALLOWED:
		return good && add(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD") &&
		       add(response, MHD_HTTP_HEADER_CONNECTION, "close");
	case MHD_HTTP_UNAUTHORIZED:
		return good && add(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE,
				       "Basic realm=\"MyTunnel\", charset=\"UTF-8\"");
	case MHD_HTTP_SERVICE_UNAVAILABLE:
		return good && add(response, MHD_HTTP_HEADER_RETRY_AFTER, "2");
	default: return good;
	}
}

static ssize_t read_stream(void *user, uint64_t pos, char *buf, size_t max)
{
	int64_t n = mt_hub_reader_read(user, buf, max);

	(void)pos;
	return n < 0 ? MHD_CONTENT_READER_END_OF_STREAM : (ssize_t)n;
}

/* NULL without memory; takes the body of `p`. */
static struct MHD_Response *make_response(const struct page *p)
{
	struct MHD_Response *response;

	if (p->stream != NULL) {
		/* The reader goes with the request. */
		return MHD_create_response_from_callback(
			MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, p->stream, NULL);
	}
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

static enum MHD_Result answer(
	const struct mt_web_site *site, struct MHD_Connection *c, const struct page *p)
{
	struct MHD_Response *response = make_response(p);
	enum MHD_Result rv = MHD_NO;

	if (response == NULL) {
		return MHD_NO; /* out of memory: the connection is closed */
	}
	if (add_headers(response, p)) {
		mt_hub_count_answer(site->hub, p->status);
		rv = MHD_queue_response(c, p->status, response);
	}
	MHD_destroy_response(response);
	return rv;
}

enum MHD_Result mt_web_on_request(void *user, struct MHD_Connection *c, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_len,
	void **request)
{
	struct page p = {.status = MHD_HTTP_INTERNAL_SERVER_ERROR};
	struct request *r = *request;
	struct context x = {.site = user, .connection = c, .request = r};

	(void)version;
	(void)upload;
	if (r == NULL) {
		*request = r = calloc(1, sizeof(*r));
		return r != NULL ? MHD_YES : MHD_NO;
	}
	/* The first call comes before a body. Answering a request that has one at this point would
	 * leave the body to be taken for the next request.
	 */
	if (*upload_len > 0) {
		*upload_len = 0; /* bodies are read past: no page takes one */
		return MHD_YES;
	}
	make_page(&p, &x, url, method);
	return p.suspended ? MHD_YES : answer(x.site, c, &p);
}

void mt_web_on_completed(
	void *user, struct MHD_Connection *c, void **request, enum MHD_RequestTerminationCode how)
{
	struct request *r = *request;

	(void)user;
	(void)c;
	(void)how;
	if (r != NULL && r->reader != NULL) {
		mt_hub_reader_free(r->reader);
	}
	free(r);
	*request = NULL;
}

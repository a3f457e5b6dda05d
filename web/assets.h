/* The dashboard's files, which the build puts into the binary (scripts/embed), and in which form a
 * client takes them. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* What a file of the dashboard may do in a browser: load and ask for what this endpoint has, and
 * nothing else. Charts are drawn on canvases and placed through the DOM, so no inline style is
 * needed, and no script ever takes a text for HTML (Trusted Types). */
#define MT_WEB_ASSET_POLICY                                                                        \
	"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "                \
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "        \
	"require-trusted-types-for 'script'; trusted-types 'none'"

struct mt_web_asset {
	const char *path; /* "/", "/ui/..." */
	const char *type; /* Content-Type */
	const char *etag; /* W/"...": the same for both forms */
	struct mt_web_bytes {
		const unsigned char *data;
		size_t len;
	} plain, gzip;
};

/* Made by the build. */
extern const struct mt_web_asset mt_web_assets[];
extern const size_t mt_web_asset_count;

/* The file served under `path` (without a query), NULL if there is none. */
const struct mt_web_asset *mt_web_asset_find(const char *path);
/* Whether an Accept-Encoding header (NULL: absent) takes gzip (RFC 9110, 12.5.3): by its name or by
 * "*", unless its weight is 0. */
bool mt_web_accepts_gzip(const char *header);
/* Whether an If-None-Match header (NULL: absent) names `etag` or is "*" (RFC 9110, 13.1.2). */
bool mt_web_etag_matches(const char *header, const char *etag);

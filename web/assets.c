#include "web/assets.h"

#include <string.h>
#include <strings.h>

#define SPACE " \t"

const struct mt_web_asset *mt_web_asset_find(const char *path)
{
	for (size_t i = 0; i < mt_web_asset_count; i++) {
		if (strcmp(mt_web_assets[i].path, path) == 0) {
			return &mt_web_assets[i];
		}
	}
	return NULL;
}

/* Whether a weight such as "0.000" is nothing; what is no number weighs something. */
static bool is_zero(const char *weight, size_t len)
{
	if (len == 0 || weight[0] != '0') {
		return false;
	}
	for (size_t i = 1; i < len; i++) {
		if (weight[i] != (i == 1 ? '.' : '0')) {
			return false;
		}
	}
	return true;
}

/* Takes `; q=WEIGHT` behind a name, up to the end of the element; true when the weight is 0. */
static bool weighs_nothing(const char *p, size_t len)
{
	const char *end = p + len;

	while (p < end && strchr(SPACE ";", *p) != NULL) {
		p++;
	}
	if (end - p < 2 || (*p != 'q' && *p != 'Q') || p[1] != '=') {
		return false;
	}
	p += 2;
	len = strcspn(p, SPACE ";,");
	return is_zero(p, len);
}

bool mt_web_accepts_gzip(const char *header)
{
	bool any = false;

	for (const char *p = header; p != NULL && *p != '\0';) {
		size_t len, name;

		p += strspn(p, SPACE ",");
		len = strcspn(p, ",");
		name = strcspn(p, SPACE ";,");
		if (name == 4 && strncasecmp(p, "gzip", 4) == 0) {
			return !weighs_nothing(p + name, len - name);
		}
		if (name == 1 && *p == '*') {
			any = !weighs_nothing(p + name, len - name);
		}
		p += len;
	}
	return any;
}

bool mt_web_etag_matches(const char *header, const char *etag)
{
	size_t wanted;

	etag = strncmp(etag, "W/", 2) == 0 ? etag + 2 : etag; /* compared weakly */
	wanted = strlen(etag);
	for (const char *p = header; p != NULL && *p != '\0';) {
		size_t len;

		p += strspn(p, SPACE ",");
		len = strcspn(p, SPACE ",");
		if (len == 1 && *p == '*') {
			return true;
		}
		if (len >= 2 && strncmp(p, "W/", 2) == 0) {
			p += 2;
			len -= 2;
		}
		if (len == wanted && strncmp(p, etag, wanted) == 0) {
			return true;
		}
		p += len;
	}
	return false;
}

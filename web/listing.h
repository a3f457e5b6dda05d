/* Pages of connections and of clients as JSON: filtered, sorted, cut. Pure. */
#pragma once

#include "proto/wire/err.h"
#include "web/view.h"

#include <stddef.h>

#define MT_LISTING_LIMIT   100 /* rows of a page, unless another number is asked for */
#define MT_LISTING_MAX     1000
#define MT_LISTING_FILTERS 4

/* What a request asks for; its texts are borrowed. */
struct mt_listing_query {
	enum mt_web_listing which;
	const char *filters[MT_LISTING_FILTERS]; /* by their place in the table; NULL: any */
	size_t sort;                             /* of the fields */
	size_t limit;
	size_t offset;
};

void mt_listing_begin(struct mt_listing_query *q, enum mt_web_listing which);
/* Takes one parameter of the request (`value` NULL: it has none). On failure `*why` is a static
 * sentence. */
int mt_listing_take(struct mt_listing_query *q, const char *name, const char *value,
	const char **why) MT_MUST_CHECK;
/* The answer, a string for free(); NULL without memory. `rows` are of the kind that the query is
 * about. */
char *mt_listing_format(const struct mt_listing_query *q, const void *rows, size_t count);

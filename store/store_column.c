#include "store/store_private.h"

#include "proto/wire/addr.h"

#include <stdio.h>
#include <string.h>

int mt_store_fail_damaged(struct mt_store *store, const char *format, ...)
{
	char what[256];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(what, sizeof(what), format, args); /* for people: cut when too long */
	va_end(args);
	if (store->is_copy) {
		return mt_store_fail(store, MT_E_CORRUPT, "the backup holds an unusable %s", what);
	}
	return mt_store_fail(store, MT_E_CORRUPT,
		"%s holds an unusable %s: stop the daemon, move the file away and put a backup in "
		"its place",
		store->path, what);
}

bool mt_store_read_int(sqlite3_stmt *statement, int column, int64_t min, int64_t max, int64_t *out)
{
	int64_t value = sqlite3_column_int64(statement, column);

	if (sqlite3_column_type(statement, column) != SQLITE_INTEGER || value < min ||
		value > max) {
		return false;
	}
	*out = value;
	return true;
}

bool mt_store_read_text(sqlite3_stmt *statement, int column, size_t max, const char **out)
{
	const char *text;
	size_t len;

	if (sqlite3_column_type(statement, column) != SQLITE_TEXT) {
		return false;
	}
	text = (const char *)sqlite3_column_text(statement, column);
	len = (size_t)sqlite3_column_bytes(statement, column);
	if (text == NULL || len > max || memchr(text, '\0', len) != NULL) {
		return false;
	}
	*out = text;
	return true;
}

bool mt_store_read_line(sqlite3_stmt *statement, int column, char *out, size_t cap)
{
	const char *text;
	size_t len;

	if (!mt_store_read_text(statement, column, cap - 1, &text)) {
		return false;
	}
	len = strlen(text);
	if (!mt_text_is_line(text, len)) {
		return false;
	}
	memcpy(out, text, len + 1);
	return true;
}

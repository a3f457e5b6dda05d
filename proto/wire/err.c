#include "proto/wire/err.h"

#include <stddef.h>
#include <string.h>

struct phrase {
	int err;
	const char *text;
};

static const struct phrase phrases[] = {
	{MT_OK, "success"},
	{MT_E_AGAIN, "more input or room is needed"},
	{MT_E_MALFORMED, "malformed input"},
	{MT_E_TOO_LONG, "too long"},
	{MT_E_UNSUPPORTED, "not supported"},
	{MT_E_RANGE, "number out of range"},
	{MT_E_NOT_FOUND, "not found"},
	{MT_E_EXISTS, "exists already"},
	{MT_E_LIMIT, "a limit is reached"},
	{MT_E_DENIED, "not allowed"},
	{MT_E_CLOSED, "closed"},
	{MT_E_RESET, "reset, data may be missing"},
	{MT_E_TIMEOUT, "timed out"},
	{MT_E_TLS, "TLS failure"},
	{MT_E_QUIC, "QUIC failure"},
	{MT_E_STORE, "database failure"},
	{MT_E_CORRUPT, "stored data is corrupt"},
	{MT_E_NEWER, "stored by a newer version"},
	{MT_E_PERMS, "file permissions are too open"},
	{MT_E_PIN, "the certificate does not match the pin"},
	{MT_E_DNS, "the name did not resolve"},
	{MT_E_BUSY, "in use by another process"},
};

const char *mt_strerror(int err)
{
	const char *text = NULL;

	for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++) {
		if (phrases[i].err == err) {
			return phrases[i].text;
		}
	}
	/* strerrordesc_np, unlike strerror, is thread-safe and independent of the locale. */
	if (err < 0 && err > MT_E_AGAIN) {
		text = strerrordesc_np(-err);
	}
	return text != NULL ? text : "unknown error";
}

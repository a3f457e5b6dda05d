/* Where a codec's state takes its memory from: the caller's pool. */
#pragma once

#include <stddef.h>

struct mt_allocator {
	void *(*alloc)(void *user, size_t len); /* NULL without memory */
	void (*release)(void *user, void *ptr); /* NULL is allowed */
	void *user;
};

/* A temporary state folder for tests of the store. */
#pragma once

#include "store/store.h"

struct store_folder {
	char dir[80];
	char db[128];
	char wal[128];
};

int store_setup(void **state);
int store_teardown(void **state);
/* Opens the store, or fails the test with its sentence. */
struct mt_store *store_must_open(const struct store_folder *f);
/* Changes a closed database behind the store's back. */
void store_sql(const struct store_folder *f, const char *text);

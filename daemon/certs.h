/* The appliance's own certificates in the store. Control thread. */
#pragma once

#include "proto/wire/err.h"
#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Makes sure that the appliance has its authority and a server certificate that has at least 30
 * days left at `now` (Unix seconds): makes what is missing and, with `renew`, makes anew what runs
 * out.
 * `*changed` says whether something was written.
 */
int mt_certs_ensure(struct mt_store *store, bool renew, int64_t now, bool *changed, char *why,
	size_t why_cap) MT_MUST_CHECK;
/* Makes a new server certificate whatever the old one has left. */
int mt_certs_renew(struct mt_store *store, char *why, size_t why_cap) MT_MUST_CHECK;
/* Writes why `what` of the store cannot be used, and returns `rv`. */
int mt_certs_explain(int rv, struct mt_store *store, const char *what, char *why, size_t why_cap);

/* Profiles and keys on disk: ~/.config/mytunnel/NAME and NAME.key. */
#pragma once

#include "proto/wire/profile.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* All functions below return 0 or a negative error, and on an error a sentence in `why`. */
#define MT_WHY_MAX 1024

/* Reads PROFILE: "-" is `input`, a text with a '/' or the name of a file that exists is a file,
 * else it is an imported name. A profile without a key is joined with NAME.key. `*warning` is set
 * to a sentence, or to "", for files that others can read. MT_E_PERMS for files of our own folder
 * that are too open. A URI is refused: arguments are public on a machine.
 */
int mt_profile_load(struct mt_profile *out, const char *profile, FILE *input, char *warning,
	char *why) MT_MUST_CHECK;

/* Reads a URI from `input`, checks it and stores it under `name`; MT_E_EXISTS unless `force`.
 * `path` (MT_WHY_MAX bytes) receives where. `*joined` says that the profile has no key of its own
 * and NAME.key is there.
 */
int mt_profile_import(const char *name, FILE *input, bool force, char *path, bool *joined,
	char *why) MT_MUST_CHECK;

/* Writes a private key to NAME.key; MT_E_EXISTS unless `force`. */
int mt_profile_store_key(const char *name, const uint8_t key[MT_KEY_LEN], bool force, char *path,
	char *why) MT_MUST_CHECK;

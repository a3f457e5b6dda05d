#include "client/profile_file.h"

#include "proto/wire/encode.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX_KEY ".key"

static void explain(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void explain(char *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why, MT_WHY_MAX, format, args); /* a longer sentence is cut */
	va_end(args);
}

/* The folder of profiles, made when `create`. */
static int config_dir(char path[MT_WHY_MAX], bool create, char *why)
{
	const char *xdg = getenv("XDG_CONFIG_HOME");
	const char *home = getenv("HOME");
	char base[MT_WHY_MAX];
	int n;

	if (xdg != NULL && xdg[0] == '/') {
		n = snprintf(base, sizeof(base), "%s", xdg);
	} else if (home != NULL && home[0] == '/') {
		n = snprintf(base, sizeof(base), "%s/.config", home);
	} else {
		explain(why, "neither XDG_CONFIG_HOME nor HOME names a folder");
		return MT_E_NOT_FOUND;
	}
	/* Room for "/mytunnel/", a name and ".key". */
	if (n < 0 || (size_t)n + MT_NAME_MAX + 32 > sizeof(base)) {
		explain(why, "the path of the configuration folder is too long");
		return MT_E_TOO_LONG;
	}
	(void)snprintf(path, MT_WHY_MAX, "%.*s/mytunnel", MT_WHY_MAX - MT_NAME_MAX - 32, base);
	if (!create) {
		return 0;
	}
	/* A missing parent shows in the second call. */
	(void)mkdir(base, 0700);
	if (mkdir(path, 0700) < 0 && errno != EEXIST) {
		int err = -errno;

		explain(why, "cannot make the folder '%s' (%s)", path, mt_strerror(err));
		return err;
	}
	return 0;
}

static int name_path(
	char path[MT_WHY_MAX], const char *name, const char *suffix, bool create, char *why)
{
	char dir[MT_WHY_MAX];
	int err = mt_name_check(name);

	if (err < 0) {
		explain(why,
			"'%.80s' is not a name: 1 to %d letters, digits, '.', '_', '-', '@', not "
			"starting with '.' or '-'",
			name, MT_NAME_MAX);
		return err;
	}
	err = config_dir(dir, create, why);
	if (err < 0) {
		return err;
	}
	(void)snprintf(
		path, MT_WHY_MAX, "%.*s/%s%s", MT_WHY_MAX - MT_NAME_MAX - 16, dir, name, suffix);
	return 0;
}

static int read_stream(FILE *in, char text[MT_PROFILE_MAX + 64], const char *label, char *why)
{
	const size_t cap = MT_PROFILE_MAX + 64;
	size_t len;
	int err;

	/* Unbuffered: a secret should not stay behind in a buffer of stdio's. */
	(void)setvbuf(in, NULL, _IONBF, 0);
	errno = 0;
	len = fread(text, 1, cap - 1, in);
	if (ferror(in)) {
		err = errno != 0 ? -errno : -EIO;
		explain(why, "cannot read %s (%s)", label, mt_strerror(err));
		return err;
	}
	text[len] = '\0';
	if (len == cap - 1) {
		explain(why, "%s is longer than a profile can be", label);
		return MT_E_TOO_LONG;
	}
	if (memchr(text, '\0', len) != NULL) {
		explain(why, "%s holds a NUL byte: this is not a profile", label);
		return MT_E_MALFORMED;
	}
	return 0;
}

/* Reads a small file. `*open_mode` is its mode when group or others can read it, else 0. */
static int read_file(
	const char *path, char text[MT_PROFILE_MAX + 64], unsigned *open_mode, char *why)
{
	struct stat st;
	FILE *in = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int err;

	if (fd < 0 || fstat(fd, &st) < 0) {
		err = -errno;
		explain(why, "cannot open '%s' (%s)", path, mt_strerror(err));
		goto out;
	}
	*open_mode = S_ISREG(st.st_mode) && (st.st_mode & 077) != 0 ? st.st_mode & 07777 : 0;
	in = fdopen(fd, "r");
	if (in == NULL) {
		err = -errno;
		explain(why, "cannot read '%s' (%s)", path, mt_strerror(err));
		goto out;
	}
	err = read_stream(in, text, path, why);
out:
	if (in != NULL) {
		(void)fclose(in); /* only read from */
	} else if (fd >= 0) {
		(void)close(fd);
	}
	return err;
}

static void explain_open(char *why, const char *path, unsigned mode)
{
	explain(why, "'%s' holds a secret and is open to others (mode %04o); run: chmod 600 '%s'",
		path, mode, path);
}

/* A new 0600 file beside `path`, renamed over it when complete. */
static int write_file(const char *path, const char *text, bool force, char *why)
{
	char temporary[MT_WHY_MAX + 16];
	size_t len = strlen(text);
	size_t done = 0;
	int fd;
	int err = 0;

	(void)snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
	fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
	if (fd < 0) {
		err = -errno;
		explain(why, "cannot write '%s' (%s)", path, mt_strerror(err));
		return err;
	}
	while (done < len && err == 0) {
		ssize_t n = write(fd, text + done, len - done);

		if (n > 0) {
			done += (size_t)n;
		} else if (errno != EINTR) {
			err = -errno;
		}
	}
	if (err == 0 && fsync(fd) < 0) {
		err = -errno;
	}
	if (close(fd) < 0 && err == 0) {
		err = -errno;
	}
	if (err == 0 && force && rename(temporary, path) < 0) {
		err = -errno;
	}
	/* link() refuses an existing name atomically, rename() would replace it. */
	if (err == 0 && !force && link(temporary, path) < 0) {
		err = errno == EEXIST ? MT_E_EXISTS : -errno;
	}
	if (err < 0 || !force) {
		(void)unlink(temporary);
	}
	if (err == MT_E_EXISTS) {
		explain(why, "'%s' exists and stayed as it was; use --force to replace it", path);
	} else if (err < 0) {
		explain(why, "cannot write '%s' (%s)", path, mt_strerror(err));
	}
	return err;
}

static int parse_uri(struct mt_profile *out, const char *text, const char *label, char *why)
{
	const char *what = "it is malformed";
	size_t where = 0;
	int err = mt_profile_parse(out, text, &where, &what);

	if (err < 0) {
		explain(why, "%s is not a profile: %s (at character %zu)", label, what, where + 1);
	}
	return err;
}

static int load_key(struct mt_profile *profile, const char *name, char *why)
{
	char path[MT_WHY_MAX];
	char text[MT_PROFILE_MAX + 64];
	unsigned open_mode = 0;
	size_t len;
	int err = name_path(path, name, SUFFIX_KEY, false, why);

	if (err == 0 && access(path, F_OK) < 0) {
		explain(why,
			"the profile has no key and '%s' does not exist; run: mytunnel keygen %s",
			path, name);
		return MT_E_NOT_FOUND;
	}
	if (err == 0) {
		err = read_file(path, text, &open_mode, why);
	}
	if (err < 0) {
		goto out;
	}
	if (open_mode != 0) {
		explain_open(why, path, open_mode);
		err = MT_E_PERMS;
		goto out;
	}
	len = strcspn(text, " \t\r\n");
	if (text[len + strspn(text + len, " \t\r\n")] != '\0') {
		err = MT_E_MALFORMED;
	} else {
		err = mt_base64url_decode(profile->key, MT_KEY_LEN, text, len);
	}
	if (err < 0) {
		explain(why, "'%s' does not hold a key", path);
		goto out;
	}
	profile->has_key = true;
out:
	mt_wipe(text, sizeof(text));
	return err;
}

static bool has_key_file(const char *name)
{
	char path[MT_WHY_MAX];
	char why[MT_WHY_MAX];

	return mt_name_check(name) == 0 && name_path(path, name, SUFFIX_KEY, false, why) == 0 &&
	       access(path, F_OK) == 0;
}

/* Which key file belongs to a profile without a key: that of the file's own name, else of the name
 * that the server gave the client.
 */
static int join_key(struct mt_profile *profile, const char *file_name, char *why)
{
	if (has_key_file(file_name)) {
		return load_key(profile, file_name, why);
	}
	if (mt_name_check(profile->name) == 0) {
		return load_key(profile, profile->name, why);
	}
	explain(why,
		"the profile has no key; store it with: mytunnel import NAME, and make the key "
		"with: mytunnel keygen NAME");
	return MT_E_NOT_FOUND;
}

static bool is_file(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

/* Which file PROFILE means; `*ours`: one that was imported. */
static int find_file(char path[MT_WHY_MAX], bool *ours, const char *profile, char *why)
{
	int n;
	int err;

	if (strchr(profile, '/') != NULL || is_file(profile)) {
		n = snprintf(path, MT_WHY_MAX, "%s", profile);
		*ours = false;
		if (n < 0 || n >= MT_WHY_MAX) {
			explain(why, "the path of the profile is too long");
			return MT_E_TOO_LONG;
		}
		return 0;
	}
	*ours = true;
	err = name_path(path, profile, "", false, why);
	if (err == 0 && !is_file(path)) {
		explain(why,
			"there is no file '%s' and no imported profile of that name; run: mytunnel "
			"import %s",
			profile, profile);
		err = MT_E_NOT_FOUND;
	}
	return err;
}

int mt_profile_load(
	struct mt_profile *out, const char *profile, FILE *input, char *warning, char *why)
{
	struct mt_profile found = {0};
	char text[MT_PROFILE_MAX + 64];
	char path[MT_WHY_MAX] = "standard input";
	const char *base = strrchr(profile, '/');
	unsigned open_mode = 0;
	bool ours = false;
	int err = 0;

	warning[0] = '\0';
	if (strncasecmp(profile, "mytunnel:", 9) == 0) {
		explain(why,
			"a profile must not be an argument, where every process of the machine can "
			"read it; give '-' and the profile on standard input, or store it with: "
			"mytunnel import NAME");
		return MT_E_DENIED;
	}
	if (strcmp(profile, "-") == 0) {
		err = read_stream(input, text, path, why);
	} else {
		err = find_file(path, &ours, profile, why);
		if (err == 0) {
			err = read_file(path, text, &open_mode, why);
		}
	}
	if (err == 0) {
		err = parse_uri(&found, text, path, why);
	}
	if (err < 0) {
		goto out;
	}
	/* Without a key there is nothing to keep from others. */
	if (found.has_key && open_mode != 0) {
		explain_open(ours ? why : warning, path, open_mode);
		err = ours ? MT_E_PERMS : 0;
	}
	if (!found.has_key) {
		err = join_key(&found, base == NULL ? profile : base + 1, why);
	}
	if (err == 0) {
		*out = found;
	}
out:
	mt_wipe(&found, sizeof(found));
	mt_wipe(text, sizeof(text));
	return err;
}

int mt_profile_import(
	const char *name, FILE *input, bool force, char *path, bool *joined, char *why)
{
	struct mt_profile found = {0};
	char text[MT_PROFILE_MAX + 64] = {0};
	char uri[MT_PROFILE_MAX + 2];
	char found_path[MT_WHY_MAX];
	size_t len = strlen(name);
	int err;

	if (len > strlen(SUFFIX_KEY) && strcmp(name + len - strlen(SUFFIX_KEY), SUFFIX_KEY) == 0) {
		explain(why, "a profile's name must not end in '" SUFFIX_KEY "'");
		return MT_E_MALFORMED;
	}
	err = name_path(found_path, name, "", true, why);
	if (err < 0) {
		return err;
	}
	err = read_stream(input, text, "standard input", why);
	if (err == 0) {
		err = parse_uri(&found, text, "standard input", why);
	}
	if (err < 0) {
		goto out;
	}
	err = mt_profile_format(&found, uri, sizeof(uri) - 1);
	if (err < 0) {
		explain(why, "the profile cannot be written again (%s)", mt_strerror(err));
		goto out;
	}
	len = strlen(uri);
	uri[len] = '\n';
	uri[len + 1] = '\0';
	err = write_file(found_path, uri, force, why);
	if (err < 0) {
		goto out;
	}
	*joined = !found.has_key && (has_key_file(name) || has_key_file(found.name));
	if (!found.has_key && !*joined) {
		explain(why,
			"the profile has no key, and none was made here under this name; make one "
			"with: mytunnel keygen %s, and have it enrolled",
			name);
	} else {
		why[0] = '\0';
	}
	(void)snprintf(path, MT_WHY_MAX, "%s", found_path);
out:
	mt_profile_deinit(&found);
	mt_wipe(text, sizeof(text));
	mt_wipe(uri, sizeof(uri));
	return err;
}

int mt_profile_store_key(
	const char *name, const uint8_t key[MT_KEY_LEN], bool force, char *path, char *why)
{
	char text[MT_BASE64URL_LEN(MT_KEY_LEN) + 2];
	char found_path[MT_WHY_MAX];
	int err = name_path(found_path, name, SUFFIX_KEY, true, why);

	if (err < 0) {
		return err;
	}
	mt_base64url_encode(text, key, MT_KEY_LEN);
	text[MT_BASE64URL_LEN(MT_KEY_LEN)] = '\n';
	text[MT_BASE64URL_LEN(MT_KEY_LEN) + 1] = '\0';
	err = write_file(found_path, text, force, why);
	mt_wipe(text, sizeof(text));
	if (err == 0) {
		(void)snprintf(path, MT_WHY_MAX, "%s", found_path);
	}
	return err;
}

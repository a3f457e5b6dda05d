#include "ctl/ctl.h"
#include "ctl/table.h"
#include "proto/wire/encode.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGE_MAX  ((size_t)40 * 1024 * 1024) /* as the daemon takes it */
#define PART_BYTES ((size_t)96 * 1024)        /* as base64 well below a request's limit */

/* A new file for its owner alone, complete and on disk, or none. */
static int write_private(const char *path, const uint8_t *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	size_t done = 0;
	int err = 0;

	if (fd < 0) {
		return -errno;
	}
	while (err == 0 && done < len) {
		ssize_t n = write(fd, data + done, len - done);

		if (n > 0) {
			done += (size_t)n;
		} else if (n == 0 || errno != EINTR) {
			err = n == 0 ? -EIO : -errno;
		}
	}
	if (err == 0 && fsync(fd) != 0 && errno != EINVAL && errno != EROFS) {
		err = -errno;
	}
	if (close(fd) != 0 && err == 0) {
		err = -errno;
	}
	if (err != 0) {
		(void)unlink(path); /* half a backup is none */
	}
	return err;
}

static int save_backup(const char *path, const json_t *result)
{
	const char *text = mt_ctl_text(result, "data");
	json_int_t bytes = json_integer_value(json_object_get(result, "bytes"));
	uint8_t *data;
	int err;

	if (bytes < 1 || bytes > (json_int_t)IMAGE_MAX) {
		return mt_ctl_fail(CTL_FAILED, "the daemon's answer cannot be read; are both "
					       "programs of one version?");
	}
	data = malloc((size_t)bytes);
	if (data == NULL) {
		return mt_ctl_fail(CTL_FAILED, "out of memory");
	}
	err = mt_base64url_decode(data, (size_t)bytes, text, strlen(text));
	if (err == 0) {
		err = write_private(path, data, (size_t)bytes);
	}
	mt_wipe(data, (size_t)bytes);
	free(data);
	if (err == -EEXIST) {
		return mt_ctl_fail(CTL_FAILED,
			"%s exists already; nothing was written: choose another name", path);
	}
	if (err != 0) {
		return mt_ctl_fail(CTL_FAILED, "cannot write %s: %s; no backup was made", path,
			mt_strerror(err));
	}
	return CTL_OK;
}

int mt_ctl_backup(const struct mt_ctl *ctl, int argc, char **argv)
{
	char size[MT_NUMBER_TEXT_MAX];
	json_t *root = NULL;
	json_t *result = NULL;
	json_int_t bytes;
	struct stat st;
	int status;

	(void)argc;
	/* Known before the daemon works; what counts is the opening later on. */
	if (lstat(argv[0], &st) == 0) {
		return mt_ctl_fail(CTL_FAILED,
			"%s exists already; nothing was written: choose another name", argv[0]);
	}
	status = mt_ctl_call(ctl, "backup", NULL, &root, &result);
	if (status != 0) {
		return status;
	}
	bytes = json_integer_value(json_object_get(result, "bytes"));
	status = save_backup(argv[0], result);
	json_decref(root);
	if (status != CTL_OK) {
		return status;
	}
	if (ctl->json) {
		json_t *answer = json_pack("{s:s, s:I}", "file", argv[0], "bytes", bytes);

		status = mt_ctl_print_json(answer);
		json_decref(answer);
		return status;
	}
	printf("%s: %s, complete; it holds private keys, keep it to yourself\n", argv[0],
		mt_format_bytes(size, (uint64_t)bytes));
	return CTL_OK;
}

static int read_image(const char *path, uint8_t **out, size_t *len)
{
	FILE *in = fopen(path, "re");
	uint8_t *data = in != NULL ? malloc(IMAGE_MAX + 1) : NULL;
	size_t n = 0;
	int err = in == NULL ? -errno : data == NULL ? -ENOMEM : 0;

	if (err == 0) {
		(void)setvbuf(in, NULL, _IONBF, 0); /* a failure leaves the buffer, no error */
		n = fread(data, 1, IMAGE_MAX + 1, in);
		err = ferror(in) != 0 ? -EIO : n > IMAGE_MAX ? -EFBIG : 0;
	}
	if (in != NULL) {
		(void)fclose(in); /* it was only read */
	}
	if (err != 0) {
		mt_wipe(data, n);
		free(data);
		return mt_ctl_fail(CTL_FAILED, "cannot read %s: %s; nothing was changed", path,
			mt_strerror(err));
	}
	*out = data;
	*len = n;
	return 0;
}

/* Calls a verb whose answer is one number; negative when it failed, which has been told. */
static json_int_t call_number(
	const struct mt_ctl *ctl, const char *verb, json_t *args, const char *key, int *status)
{
	json_t *root = NULL;
	json_t *result = NULL;
	json_int_t number = -1;

	*status = mt_ctl_call(ctl, verb, args, &root, &result);
	if (*status == 0) {
		number = json_integer_value(json_object_get(result, key));
		json_decref(root);
	}
	return number;
}

static int send_parts(const struct mt_ctl *ctl, json_int_t upload, const uint8_t *image, size_t len)
{
	static char text[MT_BASE64URL_LEN(PART_BYTES) + 1];
	int status = CTL_OK;

	for (size_t off = 0; off < len && status == CTL_OK; off += PART_BYTES) {
		size_t part = len - off < PART_BYTES ? len - off : PART_BYTES;

		mt_base64url_encode(text, image + off, part);
		(void)call_number(ctl, "restore.part",
			json_pack("{s:I, s:s}", "upload", upload, "data", text), "bytes", &status);
	}
	mt_wipe(text, sizeof(text));
	return status;
}

static void print_keys(const char *title, const json_t *keys)
{
	size_t i;
	json_t *key;

	if (json_array_size(keys) == 0) {
		return;
	}
	fputs(title, stdout);
	json_array_foreach(keys, i, key)
	{
		printf("%s%s", i > 0 ? ", " : " ", json_string_value(key));
	}
	putchar('\n');
}

static int print_restored(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	printf("restored: %" JSON_INTEGER_FORMAT " clients, and all of it is in force\n",
		json_integer_value(json_object_get(result, "clients")));
	print_keys("settings that changed:", json_object_get(result, "settings_changed"));
	print_keys(
		"waiting for a restart of the daemon:", json_object_get(result, "needs_restart"));
	return CTL_OK;
}

int mt_ctl_restore(const struct mt_ctl *ctl, int argc, char **argv)
{
	uint8_t *image = NULL;
	size_t len = 0;
	char question[256];
	json_int_t upload;
	int status = read_image(argv[0], &image, &len);

	(void)argc;
	if (status != 0) {
		return status;
	}
	(void)snprintf(question, sizeof(question),
		"Replace all settings, clients, rules and certificates by those of %.120s?",
		argv[0]); /* for people: cut when too long */
	if (!mt_ctl_confirm(ctl, question)) {
		status = CTL_FAILED;
		goto out;
	}
	upload = call_number(ctl, "restore.begin", json_pack("{s:I}", "bytes", (json_int_t)len),
		"upload", &status);
	if (status == CTL_OK) {
		status = send_parts(ctl, upload, image, len);
	}
	if (status == CTL_OK) {
		status = mt_ctl_ask(ctl, "restore.finish", json_pack("{s:I}", "upload", upload),
			print_restored);
	}
out:
	mt_wipe(image, len);
	free(image);
	return status;
}

/* The data as a whole: backups, what is put back of them, and the audit trail. */
#include "daemon/certs.h"
#include "daemon/log.h"
#include "daemon/verbs.h"
#include "proto/wire/encode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* As base64 it must fit an answer, and the control thread should not be busy for long. */
#define IMAGE_MAX      ((size_t)40 * 1024 * 1024)
#define AUDIT_DEFAULT  50
#define STAYS          "; nothing was changed"
#define NEXT_FOR_FILES "mytunnelctl restore FILE, with a file that mytunnelctl backup has made"

struct mt_upload {
	uint8_t *image;
	size_t size;
	size_t filled;
	uint64_t id;
};

void mt_upload_free(struct mt_upload *u)
{
	if (u != NULL) {
		mt_wipe(u->image, u->size);
		free(u->image);
		free(u);
	}
}

static json_t *image_json(const uint8_t *image, size_t len)
{
	size_t text_len = MT_BASE64URL_LEN(len);
	char *text = malloc(text_len + 1);
	json_t *result = NULL;

	if (text != NULL) {
		mt_base64url_encode(text, image, len);
		result = json_pack("{s:I, s:s}", "bytes", (json_int_t)len, "data", text);
		mt_wipe(text, text_len);
		free(text);
	}
	return result;
}

void mt_verb_backup(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	uint8_t *image = NULL;
	size_t len = 0;
	int rv = mt_store_backup(a->store, &image, &len);

	(void)args;
	if (rv != 0) {
		mt_reply_failure(reply, rv, mt_store_error(a->store), "mytunnelctl doctor");
	} else if (len > IMAGE_MAX) {
		mt_reply_error(reply, "too_large",
			"the database is too large for a backup over the control socket",
			"stop the daemon and copy its state folder");
	} else {
		mt_log(MT_LOG_INFO, "backup_made", MT_LOG_NUMBER("bytes", len));
		mt_reply_result(reply, image_json(image, len));
	}
	mt_store_image_free(image, len);
}

void mt_verb_restore_begin(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	json_int_t bytes = json_integer_value(json_object_get(args, "bytes"));
	struct mt_upload *u;

	if (bytes < 1 || bytes > (json_int_t)IMAGE_MAX) {
		mt_reply_error(reply, "invalid",
			bytes < 1 ? "the file is empty" STAYS : "the file is too large" STAYS,
			NEXT_FOR_FILES);
		return;
	}
	u = calloc(1, sizeof(*u));
	if (u == NULL || (u->image = malloc((size_t)bytes)) == NULL) {
		free(u);
		mt_reply_result(reply, NULL);
		return;
	}
	u->size = (size_t)bytes;
	u->id = a->upload_serial++;
	/* One at a time: an older one was given up, or will be told so. */
	mt_upload_free(a->upload);
	a->upload = u;
	mt_reply_result(reply, json_pack("{s:I}", "upload", (json_int_t)u->id));
}

static struct mt_upload *find_upload(
	struct mt_appliance *a, const json_t *args, struct mt_reply *reply)
{
	const json_t *id = json_object_get(args, "upload");

	if (a->upload == NULL || !json_is_integer(id) ||
		(uint64_t)json_integer_value(id) != a->upload->id) {
		mt_reply_error(reply, "not_found",
			"another restore has begun meanwhile, or the daemon was restarted" STAYS,
			"mytunnelctl restore FILE");
		return NULL;
	}
	return a->upload;
}

void mt_verb_restore_part(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	struct mt_upload *u = find_upload(a, args, reply);
	const json_t *data = json_object_get(args, "data");
	size_t text_len = json_string_length(data);
	size_t len = text_len / 4 * 3 + (text_len % 4 > 0 ? text_len % 4 - 1 : 0);

	if (u == NULL) {
		return;
	}
	if (!json_is_string(data) || len == 0 || len > u->size - u->filled ||
		mt_base64url_decode(u->image + u->filled, len, json_string_value(data), text_len) !=
			0) {
		mt_reply_error(reply, "invalid", "a part does not fit" STAYS, "");
		return;
	}
	u->filled += len;
	mt_reply_result(reply, json_pack("{s:I}", "bytes", (json_int_t)u->filled));
}

/* An answer that waits for the workers. */
struct mt_restore {
	struct mt_appliance *appliance;
	struct mt_reply *reply;
	json_t *result;
};

static void on_restored(void *user, bool cancelled)
{
	struct mt_restore *r = user;

	if (cancelled) {
		mt_reply_made(r->reply, r->result, "stopping",
			"restored, but the daemon is stopping", "");
	} else if (json_object_set_new(r->result, "clients",
			   json_integer((json_int_t)r->appliance->snapshot->client_count)) != 0) {
		mt_reply_made(r->reply, r->result, "failed",
			"restored, but out of memory for the answer", "mytunnelctl status");
	} else {
		mt_reply_result(r->reply, r->result);
	}
	free(r);
}

static json_t *restored_json(const struct mt_appliance *a, const struct mt_settings *next)
{
	const struct mt_setting *table = mt_settings_table();
	json_t *changed = json_array();
	json_t *restart = json_array();
	int bad = 0;

	for (size_t i = 0; i < MT_SETTING_COUNT; i++) {
		if (strcmp(next->text[i], a->settings.text[i]) == 0) {
			continue;
		}
		bad |= json_array_append_new(changed, json_string(table[i].key));
		if (table[i].applies == MT_APPLIES_RESTART) {
			bad |= json_array_append_new(restart, json_string(table[i].key));
		}
	}
	if (bad != 0) {
		json_decref(changed);
		json_decref(restart);
		return NULL;
	}
	return json_pack("{s:o, s:o}", "settings_changed", changed, "needs_restart", restart);
}

/* Totals that have been counted stay counted, whatever the backup says of them. */
static void save_accounts(struct mt_appliance *a)
{
	int rv = mt_accounts_save(&a->accounts, a->store);

	if (rv != 0) {
		mt_log(MT_LOG_WARN, "traffic_not_saved",
			MT_LOG_TEXT("error", mt_store_error(a->store)));
	}
}

/* Checks the candidate, builds what it asks for, and puts it in force. */
static int restore(struct mt_appliance *a, struct mt_store *candidate, struct mt_restore *r,
	char *why, size_t why_cap, char *next, size_t next_cap)
{
	struct mt_change change = {.restored = candidate, .uid = mt_reply_uid(r->reply)};
	bool made = false;
	int rv = mt_store_settings_load(candidate, &change.next);

	if (rv != 0) {
		(void)snprintf(why, why_cap, "%s" STAYS, mt_store_error(candidate));
		return rv;
	}
	rv = mt_certs_ensure(candidate, mt_settings_bool(&change.next, MT_SET_TLS_AUTO_GENERATE),
		(int64_t)time(NULL), &made, why, why_cap);
	if (rv != 0) {
		return rv;
	}
	memset(change.named, true, sizeof(change.named));
	r->result = restored_json(a, &change.next);
	save_accounts(a);
	rv = mt_change_apply(a, &change, on_restored, r, why, why_cap, next, next_cap);
	if (rv == 0 || rv == MT_E_AGAIN) {
		mt_accounts_save_all(&a->accounts);
		save_accounts(a);
	}
	return rv;
}

void mt_verb_restore_finish(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	struct mt_upload *u = find_upload(a, args, reply);
	struct mt_store *candidate = NULL;
	struct mt_restore *r;
	char why[MT_WHY_MAX] = "out of memory" STAYS;
	char next[MT_WHY_MAX] = "";
	char cause[MT_WHY_MAX];
	int rv = -ENOMEM;

	if (u == NULL) {
		return;
	}
	if (u->filled != u->size) {
		mt_reply_error(reply, "invalid", "the file did not arrive whole" STAYS,
			"mytunnelctl restore FILE");
		return;
	}
	r = calloc(1, sizeof(*r));
	if (r != NULL) {
		r->appliance = a;
		r->reply = reply;
		rv = mt_store_candidate_open(
			&candidate, a->store, u->image, u->filled, cause, sizeof(cause));
		if (rv != 0) {
			(void)snprintf(why, sizeof(why), "%.400s" STAYS, cause);
			(void)snprintf(next, sizeof(next), "%s", NEXT_FOR_FILES);
		}
	}
	mt_upload_free(a->upload);
	a->upload = NULL;
	if (rv == 0) {
		rv = restore(a, candidate, r, why, sizeof(why), next, sizeof(next));
	}
	mt_store_candidate_close(candidate, a->store);
	if (rv == 0) {
		mt_log(MT_LOG_INFO, "database_restored");
		if (a->worker_count == 0) {
			mt_appliance_retry(a); /* its addresses may be free ones */
		}
	} else {
		json_t *result = r != NULL ? r->result : NULL;

		free(r);
		if (rv == MT_E_AGAIN) {
			mt_log(MT_LOG_INFO, "database_restored");
			mt_reply_made(reply, result, "failed", why, next);
		} else {
			json_decref(result);
			mt_reply_failure(reply, rv, why, next);
		}
	}
}

static int add_entry(const struct mt_store_audit *entry, void *user)
{
	json_t *detail = json_loads(entry->detail, 0, NULL);
	json_t *row = json_pack("{s:I, s:I, s:I, s:s, s:I, s:s, s:o}", "id", (json_int_t)entry->id,
		"at", (json_int_t)entry->at, "uid", (json_int_t)entry->uid, "user", entry->user,
		"pid", (json_int_t)entry->pid, "verb", entry->verb, "detail",
		detail != NULL ? detail : json_null());

	return json_array_append_new(user, row) != 0 ? -ENOMEM : 0;
}

void mt_verb_audit(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	const json_t *wanted = json_object_get(args, "limit");
	json_int_t limit = wanted != NULL ? json_integer_value(wanted) : AUDIT_DEFAULT;
	json_t *list = json_array();
	int rv;

	if (limit < 1 || limit > MT_STORE_AUDIT_MAX) {
		json_decref(list);
		mt_reply_error(reply, "invalid", "a limit is a number from 1 to 10000",
			"mytunnelctl audit --limit 100");
		return;
	}
	rv = list != NULL ? mt_store_audit_each(a->store, limit, add_entry, list) : -ENOMEM;
	if (rv == 0) {
		mt_reply_result(reply, json_pack("{s:o}", "entries", list));
		return;
	}
	json_decref(list);
	mt_reply_failure(reply, rv, rv == -ENOMEM ? "out of memory" : mt_store_error(a->store), "");
}

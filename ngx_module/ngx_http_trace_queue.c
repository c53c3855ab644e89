
/*
 * The store: one file for each exporter, which holds a queue for each worker,
 * each with its counters and a table of the spans that are open.  Without
 * "file=" it is a file in memory, which the master makes once and keeps through
 * reloads.
 *
 * A process owns a queue as long as it holds a lock on it.  The kernel takes
 * the lock from a process that dies, in whatever way: so a worker that starts
 * finds the queue of a dead one free, and what nobody starts for is adopted.
 *
 *     page 0      magic, version, number of queues, state of the receiver
 *     from 4096   an entry for each queue: where it is, its counters
 *     from 1 MiB  the queues, each with its table behind it
 */


#include "ngx_http_trace_exporter.h"


#define NGX_HTTP_TRACE_STORE_MAGIC    "nginx trace queue\n"
#define NGX_HTTP_TRACE_STORE_VERSION  3
#define NGX_HTTP_TRACE_STORE_HEADER   (1024 * 1024)
#define NGX_HTTP_TRACE_STORE_RINGS    1024

#define NGX_HTTP_TRACE_STORE_TABLE                                            \
    (NGX_HTTP_TRACE_ACTIVE_MAX * sizeof(ngx_http_trace_active_t))

#define NGX_HTTP_TRACE_ADOPT_AFTER    2000    /* ms without an owner */


typedef struct {
    uint64_t                     offset;
    uint64_t                     size;
    uint64_t                     pid;         /* of the owner; 0: it left */
    uint64_t                     unowned;     /* ms since 1970, when seen so */
    uint64_t                     places;      /* of its table that were used */
    ngx_http_trace_counters_t    counters;
} ngx_http_trace_store_entry_t;


typedef struct {
    char                         magic[24];
    uint64_t                     version;
    uint64_t                     entry_size;
    uint64_t                     rings;
    uint64_t                     end;         /* of the last queue */
    uint64_t                     up;
    uint64_t                     since;
    u_char                       unused[4096 - 9 * 8];
    ngx_http_trace_store_entry_t entries[NGX_HTTP_TRACE_STORE_RINGS];
} ngx_http_trace_store_header_t;


struct ngx_http_trace_store_s {
    ngx_fd_t                         fd;
    ngx_str_t                        file;    /* with a NUL; empty: memory */
    ngx_http_trace_store_header_t   *header;
    ngx_uint_t                       channel;
};


static ngx_http_trace_store_t *ngx_http_trace_store_create(
    ngx_http_trace_exporter_conf_t *ecf, ngx_log_t *log);
static ngx_uint_t ngx_http_trace_store_creatable(
    ngx_http_trace_store_t *store);
static ngx_int_t ngx_http_trace_store_check(ngx_http_trace_store_t *store,
    ngx_log_t *log);
static ngx_int_t ngx_http_trace_store_replace(ngx_http_trace_store_t *store,
    const char *why, ngx_log_t *log);
static ngx_int_t ngx_http_trace_store_init(ngx_http_trace_store_t *store,
    ngx_log_t *log);
static void ngx_http_trace_store_free(ngx_http_trace_store_t *store);
static ngx_int_t ngx_http_trace_store_reserve(ngx_http_trace_store_t *store,
    size_t size, ngx_uint_t n, ngx_log_t *log);
static ngx_int_t ngx_http_trace_store_append(ngx_http_trace_store_t *store,
    size_t size, ngx_log_t *log);
static ngx_int_t ngx_http_trace_store_lock(ngx_http_trace_store_t *store,
    void *what, int cmd, int type);
static ngx_http_trace_ring_t *ngx_http_trace_ring_open(
    ngx_http_trace_store_t *store, ngx_uint_t n, ngx_log_t *log);
static ngx_int_t ngx_http_trace_ring_records(ngx_http_trace_ring_t *ring,
    ngx_http_trace_store_entry_t *e, ngx_log_t *log);
static void ngx_http_trace_ring_bury(ngx_http_trace_ring_t *ring,
    ngx_uint_t channel, ngx_log_t *log);
static void ngx_http_trace_ring_settle(ngx_http_trace_ring_t *ring);


/* what this process, as a master, keeps from one cycle to the next */

static ngx_http_trace_store_t
    *ngx_http_trace_stores[NGX_HTTP_TRACE_CHANNELS];


/* for a new cycle: the store there is, or a new one, with enough free queues */

ngx_int_t
ngx_http_trace_store_open(ngx_cycle_t *cycle,
    ngx_http_trace_exporter_conf_t *ecf, ngx_uint_t channel)
{
    ngx_core_conf_t         *ccf;
    ngx_http_trace_store_t  *store;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    ecf->workers = ngx_max(ccf->worker_processes, 1);

    store = ngx_http_trace_stores[channel];

    if (store == NULL
        || store->file.len != ecf->queue_file.len
        || (store->file.len
            && ngx_strncmp(store->file.data, ecf->queue_file.data,
                           store->file.len)
               != 0))
    {
        store = ngx_http_trace_store_create(ecf, cycle->log);
        if (store == NULL) {
            return NGX_ERROR;
        }

        ngx_http_trace_store_close(channel);
        ngx_http_trace_stores[channel] = store;
    }

    store->channel = channel;
    ecf->store = store;

    if (ngx_test_config) {
        return NGX_OK;
    }

    return ngx_http_trace_store_reserve(store, ecf->queue, ecf->workers,
                                        cycle->log);
}


/* workers that have the store still have it */

void
ngx_http_trace_store_close(ngx_uint_t channel)
{
    /* without a master the queue is this process's own, and it goes on */

    if (ngx_process == NGX_PROCESS_SINGLE) {
        ngx_http_trace_stores[channel] = NULL;
        return;
    }

    if (ngx_http_trace_stores[channel]) {
        ngx_http_trace_store_free(ngx_http_trace_stores[channel]);
        ngx_http_trace_stores[channel] = NULL;
    }
}


void
ngx_http_trace_store_up(ngx_http_trace_store_t *store, ngx_uint_t up)
{
    if (store->header->since == 0 || store->header->up != up) {
        store->header->up = up;
        store->header->since = ngx_http_trace_msec();
    }
}


void
ngx_http_trace_store_sum(ngx_http_trace_exporter_conf_t *ecf,
    ngx_http_trace_summary_t *summary)
{
    ngx_uint_t                      i, n;
    ngx_http_trace_counters_t      *c, *sum;
    ngx_http_trace_store_header_t  *header;

    header = ecf->store->header;

    ngx_memzero(summary, sizeof(ngx_http_trace_summary_t));

    summary->queue_size = ecf->workers * ecf->queue;
    summary->up = header->up;
    summary->since = header->since;

    sum = &summary->counters;

    for (n = 0; n < header->rings; n++) {
        c = &header->entries[n].counters;

        sum->recorded += c->recorded;
        sum->exported += c->exported;
        sum->requests += c->requests;
        sum->retries += c->retries;
        sum->bytes += c->bytes;
        sum->queued += c->queued;
        sum->queue_used += c->queue_used;

        for (i = 0; i < NGX_HTTP_TRACE_DROPS; i++) {
            sum->dropped[i] += c->dropped[i];
        }

        for (i = 0; i < NGX_HTTP_TRACE_FAILURES; i++) {
            sum->failed[i] += c->failed[i];
        }

        if (c->queued && (sum->oldest == 0 || c->oldest < sum->oldest)) {
            sum->oldest = c->oldest;
        }
    }
}


/* calls |handler| for each place that any worker has used; it may be free */

void
ngx_http_trace_store_open_spans(ngx_http_trace_store_t *store,
    ngx_http_trace_active_pt handler, void *data)
{
    uint64_t                       places;
    ngx_uint_t                     i, n;
    ngx_http_trace_active_t       *table;
    ngx_http_trace_store_entry_t  *e;

    for (n = 0; n < store->header->rings; n++) {
        e = &store->header->entries[n];

        places = ngx_min(e->places, NGX_HTTP_TRACE_ACTIVE_MAX);

        if (places == 0 || e->pid == 0) {
            continue;
        }

        table = mmap(NULL, NGX_HTTP_TRACE_STORE_TABLE, PROT_READ, MAP_SHARED,
                     store->fd, e->offset + e->size);
        if (table == MAP_FAILED) {
            continue;
        }

        for (i = 0; i < places; i++) {
            handler(data, e->pid, i, &table[i]);
        }

        munmap(table, NGX_HTTP_TRACE_STORE_TABLE);
    }
}


static ngx_http_trace_store_t *
ngx_http_trace_store_create(ngx_http_trace_exporter_conf_t *ecf,
    ngx_log_t *log)
{
    ngx_http_trace_store_t  *store;

    store = ngx_calloc(sizeof(ngx_http_trace_store_t) + ecf->queue_file.len
                       + 1, log);
    if (store == NULL) {
        return NULL;
    }

    store->file.len = ecf->queue_file.len;
    store->file.data = (u_char *) store + sizeof(ngx_http_trace_store_t);

    if (store->file.len) {
        ngx_memcpy(store->file.data, ecf->queue_file.data, store->file.len);
    }

    if (store->file.len == 0) {
        store->fd = memfd_create("nginx trace queue", MFD_CLOEXEC);

    } else {
        store->fd = open((char *) store->file.data,
                         O_RDWR|O_CLOEXEC|(ngx_test_config ? 0 : O_CREAT),
                         0600);

        /* a test leaves no file behind */

        if (store->fd == NGX_INVALID_FILE && ngx_test_config
            && ngx_errno == NGX_ENOENT
            && ngx_http_trace_store_creatable(store))
        {
            return store;
        }
    }

    if (store->fd == NGX_INVALID_FILE) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno,
                      "cannot open \"%V\" of \"queue\", write a path that "
                      "nginx may create and write", &store->file);
        ngx_free(store);
        return NULL;
    }

    if (ngx_http_trace_store_check(store, log) != NGX_OK) {
        ngx_http_trace_store_free(store);
        return NULL;
    }

    return store;
}


/* whether the directory is there, and lets us; sets errno */

static ngx_uint_t
ngx_http_trace_store_creatable(ngx_http_trace_store_t *store)
{
    int      rc;
    u_char  *slash, c;

    slash = (u_char *) strrchr((char *) store->file.data, '/');

    /* with the slash: that of the root is all there is of it */

    c = slash[1];
    slash[1] = '\0';

    rc = access((char *) store->file.data, W_OK|X_OK);

    slash[1] = c;

    return rc == 0;
}


/* what was there before, if anything, must be ours and whole */

static ngx_int_t
ngx_http_trace_store_check(ngx_http_trace_store_t *store, ngx_log_t *log)
{
    char                            magic[sizeof(NGX_HTTP_TRACE_STORE_MAGIC)];
    uint64_t                        end;
    ngx_uint_t                      i;
    ngx_file_info_t                 fi;
    ngx_http_trace_store_entry_t   *e;
    ngx_http_trace_store_header_t  *header;

    if (ngx_fd_info(store->fd, &fi) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno,
                      ngx_fd_info_n " \"%V\" failed", &store->file);
        return NGX_ERROR;
    }

    if (ngx_file_size(&fi) == 0 && (store->file.len == 0 || ngx_is_file(&fi)))
    {
        return ngx_test_config ? NGX_OK
                               : ngx_http_trace_store_init(store, log);
    }

    if (!ngx_is_file(&fi)
        || pread(store->fd, magic, sizeof(magic), 0) != sizeof(magic)
        || ngx_memcmp(magic, NGX_HTTP_TRACE_STORE_MAGIC, sizeof(magic)) != 0)
    {
        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "\"%V\" of \"queue\" is something else than a queue of "
                      "spans, write another path", &store->file);
        return NGX_ERROR;
    }

    if (ngx_file_size(&fi) < (off_t) sizeof(ngx_http_trace_store_header_t)) {
        return ngx_http_trace_store_replace(store, "is cut off", log);
    }

    header = mmap(NULL, sizeof(ngx_http_trace_store_header_t),
                  PROT_READ|PROT_WRITE, MAP_SHARED, store->fd, 0);
    if (header == MAP_FAILED) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno, "mmap() \"%V\" failed",
                      &store->file);
        return NGX_ERROR;
    }

    store->header = header;

    if (header->version != NGX_HTTP_TRACE_STORE_VERSION
        || header->entry_size != sizeof(ngx_http_trace_store_entry_t))
    {
        return ngx_http_trace_store_replace(store, "is of another version",
                                            log);
    }

    if (header->rings > NGX_HTTP_TRACE_STORE_RINGS
        || header->end > (uint64_t) ngx_file_size(&fi)
        || header->end % ngx_pagesize)
    {
        return ngx_http_trace_store_replace(store, "is damaged", log);
    }

    /* one behind the other; a start that died may have left a gap */

    end = NGX_HTTP_TRACE_STORE_HEADER;

    for (i = 0; i < header->rings; i++) {
        e = &header->entries[i];

        if (e->offset < end
            || e->offset > header->end
            || e->offset % ngx_pagesize
            || e->size < OTLP_QUEUE_SIZE_MIN
            || e->size > OTLP_QUEUE_SIZE_MAX
            || e->size + NGX_HTTP_TRACE_STORE_TABLE > header->end - e->offset)
        {
            return ngx_http_trace_store_replace(store, "is damaged", log);
        }

        end = e->offset + e->size + NGX_HTTP_TRACE_STORE_TABLE;
    }

    return NGX_OK;
}


/*
 * A new file takes the place of one that cannot be used; who has that open
 * still has it.
 */

static ngx_int_t
ngx_http_trace_store_replace(ngx_http_trace_store_t *store, const char *why,
    ngx_log_t *log)
{
    ngx_log_error(NGX_LOG_WARN, log, 0,
                  "\"%V\" of \"queue\" %s, the spans in it are lost and a new "
                  "one takes its place", &store->file, why);

    if (ngx_test_config) {
        return NGX_OK;
    }

    if (store->header) {
        munmap(store->header, sizeof(ngx_http_trace_store_header_t));
        store->header = NULL;
    }

    close(store->fd);

    (void) ngx_delete_file(store->file.data);

    store->fd = open((char *) store->file.data,
                     O_RDWR|O_CLOEXEC|O_CREAT|O_EXCL, 0600);

    if (store->fd == NGX_INVALID_FILE) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno, "open() \"%V\" failed",
                      &store->file);
        return NGX_ERROR;
    }

    return ngx_http_trace_store_init(store, log);
}


static ngx_int_t
ngx_http_trace_store_init(ngx_http_trace_store_t *store, ngx_log_t *log)
{
    ngx_http_trace_store_header_t  *header;

    if (ftruncate(store->fd, NGX_HTTP_TRACE_STORE_HEADER) == -1) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno,
                      "ftruncate() \"%V\" failed", &store->file);
        return NGX_ERROR;
    }

    header = mmap(NULL, sizeof(ngx_http_trace_store_header_t),
                  PROT_READ|PROT_WRITE, MAP_SHARED, store->fd, 0);
    if (header == MAP_FAILED) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno, "mmap() \"%V\" failed",
                      &store->file);
        return NGX_ERROR;
    }

    header->version = NGX_HTTP_TRACE_STORE_VERSION;
    header->entry_size = sizeof(ngx_http_trace_store_entry_t);
    header->end = NGX_HTTP_TRACE_STORE_HEADER;

    ngx_memcpy(header->magic, NGX_HTTP_TRACE_STORE_MAGIC,
               sizeof(NGX_HTTP_TRACE_STORE_MAGIC));

    store->header = header;

    return NGX_OK;
}


static void
ngx_http_trace_store_free(ngx_http_trace_store_t *store)
{
    if (store->header) {
        munmap(store->header, sizeof(ngx_http_trace_store_header_t));
    }

    if (store->fd != NGX_INVALID_FILE) {
        close(store->fd);
    }

    ngx_free(store);
}


/*
 * Room for |n| workers that start now, beside those that still hold queues.
 * It is taken from the disk now: a full one stops the start, and never a
 * worker that writes to the mapping.
 */

static ngx_int_t
ngx_http_trace_store_reserve(ngx_http_trace_store_t *store, size_t size,
    ngx_uint_t n, ngx_log_t *log)
{
    ngx_uint_t                     i, unowned;
    ngx_http_trace_store_entry_t  *e;

    unowned = 0;

    for (i = 0; i < store->header->rings; i++) {
        e = &store->header->entries[i];

        if (e->size == size
            && ngx_http_trace_store_lock(store, e, F_GETLK, F_WRLCK)
               == NGX_OK)
        {
            unowned++;
        }
    }

    while (unowned < n) {

        if (ngx_http_trace_store_append(store, size, log) == NGX_ERROR) {
            return NGX_ERROR;
        }

        unowned++;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_trace_store_append(ngx_http_trace_store_t *store, size_t size,
    ngx_log_t *log)
{
    int                             rc;
    size_t                          room;
    ngx_int_t                       n;
    ngx_http_trace_store_entry_t   *e;
    ngx_http_trace_store_header_t  *header;

    header = store->header;
    room = size + NGX_HTTP_TRACE_STORE_TABLE;

    (void) ngx_http_trace_store_lock(store, header, F_SETLKW, F_WRLCK);

    n = NGX_ERROR;

    if (header->rings == NGX_HTTP_TRACE_STORE_RINGS) {
        ngx_log_error(NGX_LOG_ALERT, log, 0,
                      "no more than %d queues of spans fit into a store",
                      NGX_HTTP_TRACE_STORE_RINGS);
        goto done;
    }

    /* a file in memory takes it as it is used */

    rc = store->file.len ? posix_fallocate(store->fd, header->end, room)
         : ftruncate(store->fd, header->end + room) ? ngx_errno : 0;

    if (rc) {
        ngx_log_error(NGX_LOG_EMERG, log, rc,
                      "no room for %uz bytes more in \"%V\" of \"queue\"",
                      room, &store->file);
        goto done;
    }

    e = &header->entries[header->rings];

    ngx_memzero(e, sizeof(ngx_http_trace_store_entry_t));

    e->offset = header->end;
    e->size = size;

    header->end += room;

    n = header->rings;

    __atomic_store_n(&header->rings, n + 1, __ATOMIC_RELEASE);

done:

    (void) ngx_http_trace_store_lock(store, header, F_SETLK, F_UNLCK);

    return n;
}


/*
 * A lock on the first byte of a part of the header.  With F_GETLK, NGX_OK says
 * that nobody else holds it.
 */

static ngx_int_t
ngx_http_trace_store_lock(ngx_http_trace_store_t *store, void *what, int cmd,
    int type)
{
    struct flock  fl;

    ngx_memzero(&fl, sizeof(struct flock));

    fl.l_type = type;
    fl.l_whence = SEEK_SET;
    fl.l_start = (u_char *) what - (u_char *) store->header;
    fl.l_len = 1;

    while (fcntl(store->fd, cmd, &fl) == -1) {
        if (ngx_errno != NGX_EINTR) {
            return NGX_BUSY;
        }
    }

    return (cmd == F_GETLK && fl.l_type != F_UNLCK) ? NGX_BUSY : NGX_OK;
}


/*
 * A queue for this worker: one that a dead worker has left with spans in it,
 * or an empty one, or a new one.
 */

ngx_http_trace_ring_t *
ngx_http_trace_ring_claim(ngx_http_trace_exporter_conf_t *ecf, ngx_log_t *log)
{
    ngx_int_t                      n;
    ngx_uint_t                     i, empty;
    ngx_http_trace_store_t        *store;
    ngx_http_trace_store_entry_t  *e;

    store = ecf->store;

    for (empty = 0; empty < 2; empty++) {
        for (i = 0; i < store->header->rings; i++) {
            e = &store->header->entries[i];

            if (e->size == ecf->queue
                && (e->counters.queued == 0) == empty
                && ngx_http_trace_store_lock(store, e, F_SETLK, F_WRLCK)
                   == NGX_OK)
            {
                return ngx_http_trace_ring_open(store, i, log);
            }
        }
    }

    n = ngx_http_trace_store_append(store, ecf->queue, log);

    if (n == NGX_ERROR
        || ngx_http_trace_store_lock(store, &store->header->entries[n],
                                     F_SETLK, F_WRLCK)
           != NGX_OK)
    {
        return NULL;
    }

    return ngx_http_trace_ring_open(store, n, log);
}


/* whether there are other queues that their owners have not left */

ngx_uint_t
ngx_http_trace_ring_others(ngx_http_trace_exporter_conf_t *ecf,
    ngx_http_trace_ring_t *own)
{
    ngx_uint_t               i;
    ngx_http_trace_store_t  *store;

    store = ecf->store;

    for (i = 0; i < store->header->rings; i++) {
        if (i != own->n && store->header->entries[i].pid != 0) {
            return 1;
        }
    }

    return 0;
}


/*
 * A queue that its owner has not left, and that nobody owns now, or NULL.  Not
 * at once: a worker may be about to start for it.  There may be spans in it
 * even if none are counted: their owner may have died before it did that.
 */

ngx_http_trace_ring_t *
ngx_http_trace_ring_adopt(ngx_http_trace_exporter_conf_t *ecf,
    ngx_http_trace_ring_t *own, ngx_log_t *log)
{
    uint64_t                       now;
    ngx_uint_t                     i;
    ngx_http_trace_store_t        *store;
    ngx_http_trace_store_entry_t  *e;

    store = ecf->store;
    now = ngx_http_trace_msec();

    for (i = 0; i < store->header->rings; i++) {
        e = &store->header->entries[i];

        /* a lock of our own is none to us; and a pid may be another's soon */

        if (e->pid == 0 || i == own->n) {
            continue;
        }

        if (ngx_http_trace_store_lock(store, e, F_GETLK, F_WRLCK) != NGX_OK) {
            e->unowned = 0;
            continue;
        }

        if (e->unowned == 0 || e->unowned > now) {
            e->unowned = now;
        }

        if (now - e->unowned < NGX_HTTP_TRACE_ADOPT_AFTER) {
            continue;
        }

        if (ngx_http_trace_store_lock(store, e, F_SETLK, F_WRLCK) == NGX_OK) {
            return ngx_http_trace_ring_open(store, i, log);
        }
    }

    return NULL;
}


static ngx_http_trace_ring_t *
ngx_http_trace_ring_open(ngx_http_trace_store_t *store, ngx_uint_t n,
    ngx_log_t *log)
{
    ngx_http_trace_ring_t         *ring;
    ngx_http_trace_store_entry_t  *e;

    e = &store->header->entries[n];

    ring = ngx_alloc(sizeof(ngx_http_trace_ring_t), log);
    if (ring == NULL) {
        goto failed;
    }

    ring->n = n;
    ring->counters = &e->counters;
    ring->memory = mmap(NULL, e->size + NGX_HTTP_TRACE_STORE_TABLE,
                        PROT_READ|PROT_WRITE, MAP_SHARED, store->fd,
                        e->offset);

    if (ring->memory == MAP_FAILED) {
        ngx_log_error(NGX_LOG_ALERT, log, ngx_errno,
                      "mmap() of a queue of spans failed");
        goto failed;
    }

    e->pid = ngx_pid;
    e->unowned = 0;

    if (ngx_http_trace_ring_records(ring, e, log) != NGX_OK) {
        munmap(ring->memory, e->size + NGX_HTTP_TRACE_STORE_TABLE);
        goto failed;
    }

    ngx_http_trace_active_init(ring,
                       (ngx_http_trace_active_t *) (ring->memory + e->size),
                       &e->places);

    ngx_http_trace_ring_bury(ring, store->channel, log);

    ngx_http_trace_ring_update(ring);
    ngx_http_trace_ring_settle(ring);

    return ring;

failed:

    if (ring) {
        ngx_free(ring);
    }

    (void) ngx_http_trace_store_lock(store, e, F_SETLK, F_UNLCK);

    return NULL;
}


/* those that are there, or room for others */

static ngx_int_t
ngx_http_trace_ring_records(ngx_http_trace_ring_t *ring,
    ngx_http_trace_store_entry_t *e, ngx_log_t *log)
{
    if (otlp_queue_open(&ring->queue, ring->memory, e->size) == 0) {
        return NGX_OK;
    }

    if (otlp_queue_create(&ring->queue, ring->memory, e->size) != 0) {
        return NGX_ERROR;
    }

    if (e->counters.queued) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "a queue with %uL spans was damaged, a new one takes "
                      "its place", e->counters.queued);

        e->counters.dropped[NGX_HTTP_TRACE_DAMAGED] += e->counters.queued;
    }

    return NGX_OK;
}


static void
ngx_http_trace_ring_bury(ngx_http_trace_ring_t *ring, ngx_uint_t channel,
    ngx_log_t *log)
{
    ngx_uint_t  n;

    n = ngx_http_trace_active_adopt(ring, channel, log);

    /* their events are of the same requests: told of once */

    if (n && channel < NGX_HTTP_TRACE_PIPELINES) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "%ui open %V of a worker that is gone end with "
                      "worker_exit", n,
                      &ngx_http_trace_channel_names[channel]);
    }
}


void
ngx_http_trace_ring_leave(ngx_http_trace_store_t *store,
    ngx_http_trace_ring_t *ring)
{
    ngx_http_trace_store_entry_t  *e;

    e = &store->header->entries[ring->n];

    munmap(ring->memory, e->size + NGX_HTTP_TRACE_STORE_TABLE);
    ngx_free(ring);

    e->pid = 0;

    (void) ngx_http_trace_store_lock(store, e, F_SETLK, F_UNLCK);
}


/*
 * For all to see: at once that there is one span more, and how much they are
 * with the next update.
 */

void
ngx_http_trace_ring_added(ngx_http_trace_ring_t *ring)
{
    ring->counters->recorded++;

    if (ring->counters->queued++ == 0) {
        ngx_http_trace_ring_update(ring);
    }
}


void
ngx_http_trace_ring_update(ngx_http_trace_ring_t *ring)
{
    otlp_queue_stat_t  stat;

    otlp_queue_stat(&ring->queue, &stat);

    ring->counters->queued = stat.records;
    ring->counters->queue_used = stat.used;
    ring->counters->oldest = stat.oldest;
}


/*
 * An owner that died may have queued or released spans without counting that:
 * what is there now decides how many there have been.
 */

static void
ngx_http_trace_ring_settle(ngx_http_trace_ring_t *ring)
{
    ngx_uint_t                  i;
    ngx_http_trace_counters_t  *c;

    c = ring->counters;

    c->recorded = c->exported + c->queued;

    for (i = 0; i < NGX_HTTP_TRACE_DROPS; i++) {
        c->recorded += c->dropped[i];
    }
}


uint64_t
ngx_http_trace_msec(void)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    return (uint64_t) tp->sec * 1000 + tp->msec;
}

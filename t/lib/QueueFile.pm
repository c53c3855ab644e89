package QueueFile;

# What is in the file of a queue, for tests that play somebody who died in the
# middle of something: see ngx_http_trace_queue.c and ngx_http_trace_active.c.
#
#   number($file, $offset)          8 bytes of it
#   patch($file, $offset, $bytes)   writes there
#   entry($file, $n)                where the entry of a queue is
#   head($file, $n)                 the position behind its last record
#   places($file)                   where places of its table are, by the
#                                   trace-id that they have, or had last; of a
#                                   file with one queue

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(number patch entry head places);

sub patch {
    my ($file, $offset, $bytes) = @_;

    open my $fh, '+<:raw', $file or die $!;
    seek $fh, $offset, 0;
    print $fh $bytes;
    close $fh;
}

sub bytes {
    my ($file, $offset, $n) = @_;

    open my $fh, '<:raw', $file or die $!;
    seek $fh, $offset, 0;
    read $fh, my ($bytes), $n;
    return $bytes;
}

sub number { unpack 'Q', bytes(@_, 8) }

sub entry {
    my ($file, $n) = @_;

    return 4096 + $n * number($file, 32);
}

sub head {
    my ($file, $n) = @_;

    return number($file, number($file, entry($file, $n)) + 24);
}

sub places {
    my $file = shift;
    my $entry = entry($file, 0);
    my $table = number($file, $entry) + number($file, $entry + 8);
    my $size = (number($file, 48) - $table) / 8192;
    my $bytes = bytes($file, $table, 8192 * $size);

    return { map { unpack('x24H32', substr $bytes, $_, $size) => $table + $_ }
        map { $_ * $size } 0 .. 8191 };
}

1;

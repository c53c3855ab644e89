package H2;

# As much of an HTTP/2 client as tests need that say more than curl does: the
# bytes of frames. Streams have odd numbers.
#
#   my $socket = h2_connection($path);       # an nginx's Unix socket
#   syswrite $socket, h2_get(1, '/a') . h2_get(3, '/b') . h2_reset(1);

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::UNIX;

our @EXPORT = qw(h2_connection h2_get h2_reset);

sub frame {
    my ($type, $flags, $stream, $payload) = @_;

    return substr(pack('N', length $payload), 1)
        . pack('CCN', $type, $flags, $stream) . $payload;
}

sub h2_connection {
    my $path = shift;
    my $socket = IO::Socket::UNIX->new($path) or die "$path: $!";

    syswrite $socket, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame(4, 0, 0, '');

    return $socket;
}

# GET and http by their number, path and authority as they are

sub h2_get {
    my ($stream, $path) = @_;

    return frame(1, 5, $stream,
        "\x82\x86\x04" . chr(length $path) . "$path\x01\x01a");
}

sub h2_reset { return frame(3, 0, $_[0], pack 'N', 8) }     # CANCEL

1;

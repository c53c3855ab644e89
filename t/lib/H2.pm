package H2;

# As much of an HTTP/2 client as tests need that say more than curl does: the
# bytes of frames. Streams have odd numbers.
#
#   my $socket = h2_connection($path);       # an nginx's Unix socket
#   syswrite $socket, h2_get(1, '/a') . h2_get(3, '/b', name => 'value')
#       . h2_reset(1);
#
#   h2_text($bytes)         what one side has sent, as HTTP/1 would look

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::UNIX;

our @EXPORT = qw(h2_connection h2_get h2_reset h2_text);

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
    my ($stream, $path, @headers) = @_;
    my $text = sub { chr(length $_[0]) . $_[0] };
    my $block = "\x82\x86\x04" . $text->($path) . "\x01\x01a";

    $block .= "\0" . join '', map { $text->($_) } splice @headers, 0, 2
        while @headers;

    return frame(1, 5, $stream, $block);
}

sub h2_reset { return frame(3, 0, $_[0], pack 'N', 8) }     # CANCEL

# RFC 7541, appendix B: the code of a length go up, then on with the next length
my %CODES = (
    5 => '012aceiost', 6 => ' %-./3456789=A_bdfghlmnpru',
    7 => ':BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz', 8 => '&*,;XZ', 10 => '!"()?',
    11 => "'+|", 12 => '#>', 13 => "\0\$@[]~", 14 => '^}', 15 => '<`{');
my %code = huffman_codes();
my $code = join '|', keys %code;

sub huffman_codes {
    my ($next, $last, %code) = (0, 5);

    for my $length (sort { $a <=> $b } keys %CODES) {
        $next <<= $length - $last;
        $last = $length;
        $code{sprintf '%0*b', $length, $next++} = $_
            for split //, $CODES{$length};
    }

    return %code;
}

# headers as lines, an empty line behind them, and data as they are. What is in
# tables is not looked up

sub h2_text {
    my $bytes = shift;
    my $text = '';
    my $pos = $bytes =~ /\APRI / ? 24 : 0;

    while ($pos + 9 <= length $bytes) {
        my ($high, $low, $type, $flags) = unpack 'CnCC', substr $bytes, $pos;
        my $payload = substr $bytes, $pos + 9, my $n = $high << 16 | $low;

        $pos += 9 + $n;
        $payload = substr $payload, 1, length($payload) - 1 - ord $payload
            if $flags & 8 && $type < 2;
        $payload = substr $payload, 5 if $flags & 32 && $type == 1;

        $text .= $payload if $type == 0;
        $text .= header_lines($payload) if $type == 1 || $type == 9;
        $text .= "\r\n" if ($type == 1 || $type == 9) && $flags & 4;
    }

    return $text;
}

sub header_lines {
    my $block = shift;
    my $lines = '';

    while (length $block) {
        my $first = ord $block;
        my $bits = $first & 0x80 ? 7 : $first & 0x40 ? 6 : $first & 0x20 ? 5
            : 4;
        my $index = integer(\$block, $bits);

        next if $first & 0x80 || ($first & 0xe0) == 0x20;
        $lines .= ($index ? "($index)" : string(\$block)) . ': '
            . string(\$block) . "\r\n";
    }

    return $lines;
}

# off the front of |$$block|

sub integer {
    my ($block, $bits) = @_;
    my $max = (1 << $bits) - 1;
    my $value = ord(substr $$block, 0, 1, '') & $max;
    my $shift = 0;

    return $value if $value < $max;

    while (length $$block) {
        my $byte = ord substr $$block, 0, 1, '';

        $value += ($byte & 0x7f) << $shift;
        $shift += 7;
        last if $byte < 0x80;
    }

    return $value;
}

sub string {
    my $block = shift;
    my $huffman = ord($$block) & 0x80;
    my $string = substr $$block, 0, integer($block, 7), '';

    return $huffman ? join '', map { $code{$_} }
        unpack('B*', $string) =~ /\G($code)/g : $string;
}

1;

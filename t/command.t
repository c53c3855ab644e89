# The commands for headers: what they print, and what they exit with.

use strict;
use warnings;

use JSON::PP ();
use POSIX ();
use Test::More;

my $command = ($ENV{TEST_BUILD} // 'build') . '/traceparent';
my $json    = JSON::PP->new->utf8;

my $trace_id  = '4bf92f3577b34da6a3ce929d0e0e4736';
my $parent_id = '00f067aa0ba902b7';
my $valid     = "00-$trace_id-$parent_id-01";


# Runs the command with |input|. Returns its exit code, output and errors.
sub run {
    my ($input, @args) = @_;

    open my $in, '+>', undef or die $!;
    open my $out, '+>', undef or die $!;
    open my $err, '+>', undef or die $!;
    print {$in} $input // '';
    seek $in, 0, 0;

    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        open STDIN,  '<&', $in;
        open STDOUT, '>&', $out;
        open STDERR, '>&', $err;
        exec {$command} $command, @args or POSIX::_exit(99);
    }

    waitpid $pid, 0;
    my $status = $? & 127 ? 'signal ' . ($? & 127) : $? >> 8;
    seek $_, 0, 0 for $out, $err;
    local $/;

    return ($status, scalar(<$out>), scalar(<$err>));
}

# Runs it with the |redirection| of a shell. Returns exit code and errors.
sub run_shell {
    my ($args, $redirection) = @_;

    my $errors = `{ $command $args $redirection; } 2>&1`;

    return ($? >> 8, $errors);
}

# It succeeds, prints |expected| and says nothing else.
sub prints {
    my ($args, $expected, $what, $input) = @_;

    my ($status, $out, $err) = run($input, @$args);
    is_deeply([$status, $out, $err], [0, $expected, ''], $what);
}

# It exits with |code|, prints nothing, and says something like |error|.
sub fails {
    my ($args, $code, $error, $what, $input) = @_;

    my ($status, $out, $err) = run($input, @$args);
    is("$status $out", "$code ", "$what: exit code, no output");
    like($err, $error, "$what: message");
}


subtest 'parse' => sub {
    my $fields = <<"EOF";
version: 00
trace-id: $trace_id
parent-id: $parent_id
flags: 01
sampled: yes
random: no
EOF

    prints(['parse', $valid], $fields, 'an argument');
    prints(['parse'], $fields, 'standard input', "$valid\n");
    prints(['parse', '-'], $fields, '- is standard input', $valid);
    prints(['parse'], $fields, 'a line of DOS', "$valid\r\n");
    prints(['parse', " \t$valid "], $fields, 'white space around it');

    (my $other = $fields) =~ s/version: 00/version: cc/;
    $other =~ s/flags: 01/flags: fe/;
    $other =~ s/sampled: yes\nrandom: no/sampled: no\nrandom: yes/;
    prints(['parse', "cc-$trace_id-$parent_id-fe-more"], $other,
        'a higher version, all flags but one');

    my ($status, $out) = run(undef, 'parse', '--json',
        "01-$trace_id-$parent_id-03");
    is($status, 0, '--json');
    is_deeply($json->decode($out), {
        version   => 1,
        trace_id  => $trace_id,
        parent_id => $parent_id,
        flags     => 3,
        sampled   => JSON::PP::true,
        random    => JSON::PP::true,
    }, 'is an object');
    like($out, qr/\A\{"version":1,"trace_id":.*\}\n\z/, 'on one line');

    my %bad = (
        ''                                    => qr/shorter than 55/,
        substr($valid, 0, 54)                 => qr/shorter than 55/,
        "$valid-"                             => qr/longer in version 00/,
        "ff-$trace_id-$parent_id-01"          => qr/version/,
        "0X-$trace_id-$parent_id-01"          => qr/version/,
        "cc-$trace_id-$parent_id-01.x"        => qr/'-'|delimiter/i,
        '00-' . uc($trace_id) . "-$parent_id-01" => qr/trace-id/,
        "00-$trace_id-00F067aa0ba902b7-01"    => qr/parent-id/,
        "00-$trace_id-$parent_id-0g"          => qr/flags/,
        '00-' . '0' x 32 . "-$parent_id-01"   => qr/zero/,
        "00-$trace_id-" . '0' x 16 . '-01'    => qr/zero/,
    );

    for (sort keys %bad) {
        fails(['parse', $_], 1, qr/^traceparent parse: .*$bad{$_}/, "\"$_\"");
        fails(['parse'], 1, $bad{$_}, "\"$_\" as input", $_);
    }

    fails(['parse'], 1, qr/longer/, 'two lines', "$valid\n$valid\n");
    fails(['parse'], 1, qr/too large/i, 'two megabytes', 'a' x 2_000_000);
    fails(['parse', $valid, $valid], 2, qr/--help/, 'two arguments');
    fails(['parse', '--foo', $valid], 2, qr/--help/, 'an unknown option');
};


subtest 'new' => sub {
    my %seen;

    for (1 .. 20) {
        my ($status, $out, $err) = run(undef, 'new');
        is("$status$err", 0, 'succeeds');
        my ($trace, $parent)
          = $out =~ /\A00-([0-9a-f]{32})-([0-9a-f]{16})-03\n\z/;
        ok(defined $parent, 'prints a header, sampled and random');
        $seen{$_}++ for $trace, $parent;
    }

    is(scalar keys %seen, 40, 'all ids differ');

    my ($status, $out) = run(undef, 'new', '--not-sampled');
    like($out, qr/-02\n\z/, '--not-sampled');
    is((run($out, 'parse'))[0], 0, 'parse understands it');

    fails(['new', 'x'], 2, qr/--help/, 'an argument');
};


subtest 'child' => sub {
    my %flags = (
        '00' => ['00', '01', '00'],
        '01' => ['01', '01', '00'],
        '02' => ['02', '03', '02'],
        '03' => ['03', '03', '02'],
        'fd' => ['01', '01', '00'],
    );

    for my $flags (sort keys %flags) {
        my $parent = "00-$trace_id-$parent_id-$flags";
        my @is     = @{ $flags{$flags} };

        for ([], ['--sampled'], ['--not-sampled']) {
            my ($status, $out, $err) = run(undef, 'child', @$_, $parent);
            my $expected = shift @is;
            is("$status$err", 0, "child of $flags, @$_");
            like($out, qr/\A00-$trace_id-[0-9a-f]{16}-$expected\n\z/,
                "flags are $expected");
            unlike($out, qr/-$parent_id-/, 'the parent-id is new');
        }
    }

    my ($status, $out) = run("cc-$trace_id-$parent_id-01-more\n", 'child');
    like($out, qr/\A00-$trace_id-[0-9a-f]{16}-01\n\z/,
        'of a higher version is version 00');

    fails(['child', "$valid."], 1, qr/^traceparent child: /, 'no header');
    fails(['child', '--sampled', '--not-sampled', $valid], 2,
        qr/exclude each other/, 'both flags');
    fails(['child', $valid, $valid], 2, qr/--help/, 'two arguments');
};


subtest 'state' => sub {
    prints(['state', 'list', 'a=1, b= x y ,,', '', "c=3\t"],
        "a=1\nb= x y\nc=3\n", 'list: several headers are one list');
    prints(['state', 'list', '--json', 'a=1,b=" \\'],
        qq([{"key":"a","value":"1"},{"key":"b","value":"\\" \\\\"}]\n),
        'list --json');
    prints(['state', 'list'], "a=1\nb=2\n", 'list: headers in lines',
        "a=1\nb=2\n");
    prints(['state', 'list', '-'], "a=1\n", 'list -', 'a=1');
    prints(['state', 'list', ''], '', 'list: nothing');
    prints(['state', 'list', '--json', ''], "[]\n", 'list --json: nothing');

    prints(['state', 'combine', 'a=1 ,', ' b=2'], "a=1,b=2\n", 'combine');
    prints(['state', 'combine'], "\n", 'combine: no header', '');

    prints(['state', 'get', 'b', 'a=1', 'b=2'], "2\n", 'get');
    fails(['state', 'get', 'c', 'a=1'], 3, qr/^traceparent state: /,
        'get: no such member');
    fails(['state', 'get', 'a', 'a=1,b'], 1, qr/key|value/,
        'get: the list is invalid');

    prints(['state', 'set', 'b', '3', 'a=1,b=2'], "b=3,a=1\n",
        'set: goes to the front');
    prints(['state', 'set', 'n', '1', ''], "n=1\n", 'set: into nothing');
    prints(['state', 'set', '--', 'n', '-1', 'a=1'], "n=-1,a=1\n",
        'set: a value like an option');
    fails(['state', 'set', 'B', '3', 'a=1'], 1, qr/key/, 'set: bad key');
    fails(['state', 'set', 'b', 'x,y', 'a=1'], 1, qr/value/,
        'set: bad value');

    my $full = join ',', map { "k$_=$_" } 1 .. 32;
    prints(['state', 'set', 'n', '1', $full],
        'n=1,' . join(',', map { "k$_=$_" } 1 .. 31) . "\n",
        'set: the right-most of 32 leaves');

    prints(['state', 'delete', 'a', 'a=1,b=2'], "b=2\n", 'delete');
    prints(['state', 'delete', 'c', 'a=1,b=2'], "a=1,b=2\n",
        'delete: no such member');
    prints(['state', 'delete', 'a', 'a=1'], "\n", 'delete: the only one');

    for (['A=1', qr/key/], ['a', qr/./], ['a=', qr/value/],
        ['a=1,a=2', qr/twice/], ["a=\x{7f}", qr/value/],
        ["$full,k33=33", qr/32/])
    {
        my ($list, $error) = @$_;
        fails(['state', 'list', $list], 1, $error, "list $list");
        fails(['state', 'combine', $list], 1, $error, "combine $list");
        fails(['state', 'delete', 'z', $list], 1, $error, "delete $list");
    }

    fails(['state', 'combine', 'a=1', 'a=2'], 1, qr/twice/,
        'one key in two headers');
    fails(['state'], 2, qr/list, combine/, 'no action');
    fails(['state', 'sort', 'a=1'], 2, qr/list, combine/, 'no such action');
    fails(['state', 'get'], 2, qr/KEY/, 'get without a key');
    fails(['state', 'set', 'a'], 2, qr/VALUE/, 'set without a value');
    fails(['state', 'get', '--json', 'a', 'a=1'], 2, qr/--json/,
        'only list prints JSON');
};


subtest 'help' => sub {
    for (qw(parse new child state receive)) {
        my ($status, $out, $err) = run(undef, $_, '--help');
        is("$status$err", 0, "$_ --help");
        like($out, qr/\AUsage: traceparent $_ .*^Exit status: .*^Examples:\n/ms,
            'has all parts');
        unlike($out, qr/^.{81}/m, 'fits 80 columns');
    }

    my ($status, $out) = run(undef, '--help');
    is($status, 0, '--help');
    like($out, qr/^  receive /m, 'lists the commands');
    like((run(undef, '--version'))[1], qr/\Atraceparent \d+\.\d+\.\d+\n\z/,
        '--version');

    fails([], 2, qr/--help/, 'no command');
    fails(['foo'], 2, qr/"foo"/, 'no such command');
};


subtest 'output that cannot be written' => sub {
    for ('new', 'new --not-sampled', "parse $valid", "parse --json $valid",
        "child $valid", 'state list a=1', 'state list --json a=1',
        '--help', 'parse --help', '--version')
    {
        my ($status, $errors) = run_shell($_, '>/dev/full');
        is($status, 1, "$_: a full disk");
        like($errors, qr/write error|cannot print/, 'says so');

        ($status, $errors) = run_shell($_, '>&-');
        is($status, 1, "$_: a closed output");
        like($errors, qr/write error|cannot print/, 'says so');
    }

    my ($status, $errors) = run_shell('parse', '<&-');
    is($status, 1, 'a closed input');
    like($errors, qr/^traceparent parse: standard input: /, 'says so');
};


done_testing();

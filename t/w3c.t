# Each rule of W3C Trace Context, Level 2, where it shows through nginx: in the
# bytes that the next hop gets, and in the span.

use strict;
use warnings;
use Nginx;
use Wire;

our $T = '0af7651916cd43dd8448eb211c80319c';
our $P = 'b7ad6b7169203331';
our $VALID = "traceparent: 00-$T-$P-01";

# exchanges that continue the trace, with one header line each

sub main::continued {
    return [map { { send => [$_], trace => [$T, $P] } } @_];
}

# exchanges that begin a new one: from a traceparent that is no good, a
# tracestate is not taken over either

sub main::restarted {
    return [map { { send => ["traceparent: $_", 'tracestate: a=1'] } } @_];
}

# exchanges that continue the trace with a tracestate that does, or does not

sub main::state_kept {
    return [map { { send => [$VALID, "tracestate: $_"], trace => [$T, $P],
                    state => $_ } } @_];
}

sub main::state_lost {
    return [map { { send => [$VALID, "tracestate: $_"], trace => [$T, $P] } }
            @_];
}

# |n| different members

sub main::members {
    return map { "k$_=v$_" } 1 .. $_[0];
}

# all that a value may have in it

sub main::printable {
    return join '', grep { !/[,=]/ } map { chr } 0x20 .. 0x7e;
}

no_long_string();
run_tests();

__DATA__

=== TEST 1: rule 1: the name is matched in any case, and sent in lower case
--- exchanges eval
main::continued(map { "$_: 00-$::T-$::P-01" }
    qw(traceparent Traceparent TRACEPARENT TraceParent))



=== TEST 2: rule 1: so is that of tracestate
--- exchanges eval
[map { { send => [$::VALID, "$_: a=1"], trace => [$::T, $::P],
         state => 'a=1' } }
     qw(tracestate Tracestate TRACESTATE TraceState)]



=== TEST 3: rule 1: names that are only alike are other headers
--- exchanges eval
[map { { send => ["$_: 00-$::T-$::P-01"] } }
     qw(traceparen traceparents trace-parent xtraceparent)]
--- config
location /t {
    trace internal on;
    proxy_set_header xtraceparent "";
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}



=== TEST 4: rule 2: versions from 00 to fe are understood
--- exchanges eval
main::continued(map { "traceparent: $_-$::T-$::P-01" }
    qw(00 01 09 0a 10 cc f0 fe))



=== TEST 5: rule 2: version ff, upper case and what is no number are not
--- exchanges eval
main::restarted(map { "$_-$::T-$::P-01" } qw(ff FF 0A CC Fe 0g g0 zz .0 -1))



=== TEST 6: rule 3: ids in upper case begin a new trace
--- exchanges eval
main::restarted(
    '00-' . uc($::T) . "-$::P-01", "00-$::T-" . uc($::P) . '-01',
    "00-0Af7651916cd43dd8448eb211c80319c-$::P-01",
    "00-$::T-b7ad6b716920333A-01")



=== TEST 7: rule 3: so do ids that are all zero
--- exchanges eval
main::restarted("00-$::T-0000000000000000-01",
    "00-00000000000000000000000000000000-$::P-01",
    '00-00000000000000000000000000000000-0000000000000000-00')



=== TEST 8: rule 3: ids that have one digit which is not zero are good
--- exchanges eval
[map { { send => ["traceparent: 00-$_->[0]-$_->[1]-01"], trace => $_ } }
     ['00000000000000000000000000000001', '0000000000000001'],
     ['10000000000000000000000000000000', '1000000000000000'],
     ['0000000000000000f000000000000000', '00000000f0000000']]



=== TEST 9: rule 3: so do ids with anything but hexadecimal digits
--- exchanges eval
main::restarted(
    (map { "00-${_}af7651916cd43dd8448eb211c80319c-$::P-01" }
         'g', ' ', '/', ':', '`', "\x80", "\xb0", "\x01"),
    (map { "00-$::T-b7ad6b716920333$_-01" }
         'g', ' ', '/', ':', '`', "\x80", "\xb1", "\x7f"))



=== TEST 10: rule 3: so do flags that are not two digits in lower case
--- exchanges eval
main::restarted(map { "00-$::T-$::P-$_" }
    '0A', 'FF', '0g', 'g0', '-1', '+1', ' 1', '0x', '.1')



=== TEST 11: rule 4: version 00 has exactly 55 bytes
--- exchanges eval
main::restarted(map { "00-$::T-$::P-$_" }
    '01-', '01.', '01-extra', '01-00', '010', '0', '', '01,', '01 01')



=== TEST 12: rule 4: fields of other lengths and other delimiters are no good
--- exchanges eval
main::restarted('00', '-', '00-', "00-$::T", "00-$::T-$::P",
    "00-0$::T-$::P-01", "00-$::T-0$::P-01", "0-0$::T-$::P-01",
    "00_${main::T}_${main::P}_01", "00-$::T$::P-01", "00$::T$::P" . '01',
    "00-$::T $::P-01", '"00-' . "$::T-$::P-01" . '"', 'x' x 55, 'x' x 4000)



=== TEST 13: rule 5: a higher version may go on behind the flags
--- exchanges eval
main::continued(map { "traceparent: cc-$::T-$::P-01$_" }
    '', '-', '-what-the-future-will-be-like', '-00', '- x', '-' x 1000)



=== TEST 14: rule 5: but only behind a hyphen, and it has 55 bytes at least
--- exchanges eval
main::restarted(map { "$_" } "cc-$::T-$::P-01.x", "cc-$::T-$::P-01x",
    "cc-$::T-$::P-010", "cc-$::T-$::P-0", "cc-$::T-$::P-", "cc-$::T-$::P",
    "01-$::T-$::P-01 -")



=== TEST 15: rule 5: its ids and flags are held to the same rules
--- exchanges eval
main::restarted("cc-$::T-0000000000000000-01", 'cc-' . uc($::T) . "-$::P-01",
    "cc-$::T-$::P-0G", "cc-00000000000000000000000000000000-$::P-01-x")



=== TEST 16: rule 6: spaces and tabs around the value are no part of it
--- exchanges eval
main::continued(
    map { "traceparent:$_->[0]00-$::T-$::P-01$_->[1]" }
    ['', ''], ["\t", ''], ['', "\t"], [' ', ' '], ["\t\t", "\t\t"],
    [" \t ", " \t "], ["\t ", "\t "], [' ' x 100, ' ' x 100])



=== TEST 17: rule 6: nor of a higher version
--- exchanges eval
main::continued(map { "traceparent:\tcc-$::T-$::P-01$_\t " } '', '-x', "-\t")



=== TEST 18: rule 6: other blanks are
--- exchanges eval
main::restarted(map { ("$_->[0]00-$::T-$::P-01$_->[1]") }
    ["\x0b", ''], ['', "\x0c"], ["\xa0", ''], ['', "\xa0"], ["\x85", ''])



=== TEST 19: rule 7: several traceparent headers are as none, and one goes out
--- exchanges eval
my $other = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-$::P-01";

[map { { send => $_ } }
     [$::VALID, $::VALID],
     [$::VALID, $other],
     [$other, $::VALID, $other],
     [$::VALID, 'traceparent: invalid'],
     ['traceparent: invalid', $::VALID],
     [$::VALID, 'Traceparent:'],
     ['TRACEPARENT:', $::VALID],
     [($::VALID) x 50],
     [$::VALID, 'tracestate: a=1', $::VALID]]



=== TEST 20: rule 7: a comma makes no list of one header
--- exchanges eval
main::restarted("00-$::T-$::P-01,00-$::T-$::P-01", "00-$::T-$::P-01,")



=== TEST 21: rule 8: flags are bits, and unknown ones are not sent on
--- exchanges eval
[map { { send => ["traceparent: 00-$::T-$::P-$_->[0]"], trace => [$::T, $::P],
         flags => $_->[1] } }
     ['01', '01'], ['03', '03'], ['05', '01'], ['09', '01'], ['81', '01'],
     ['ff', '03'], ['fd', '01'], ['80', '01'], ['fe', '03'], ['06', '03']]



=== TEST 22: rule 8: nor are those of a higher version
--- exchanges eval
[map { { send => ["traceparent: cc-$::T-$::P-$_->[0]-x"],
         trace => [$::T, $::P], flags => $_->[1] } }
     ['01', '01'], ['03', '03'], ['ff', '03'], ['fd', '01']]



=== TEST 23: rule 8: $internal_parent_sampled is a bit of those that came
--- config
location /t {
    trace internal on;
    return 200 "$internal_parent_sampled$internal_sampled\n";
}
--- client eval
sub {
    my %sampled = ('00' => 0, '01' => 1, '02' => 0, '03' => 1, 'fe' => 0,
                   'ff' => 1, '80' => 0, '81' => 1);

    for (sort keys %sampled) {
        my $response = main::talk(main::request('/t',
            "traceparent: 00-$::T-$::P-$_"));

        Test::More::like($response, qr/\n$sampled{$_}1\n\z/, "flags $_");
    }
}
--- span_count: 8
--- check_spans eval
sub { Test::More::is(scalar @_, 8, 'spans') }



=== TEST 24: rule 9: the random bit is copied, set or not set
--- exchanges eval
[map { { send => ["traceparent: 00-$::T-$::P-$_->[0]"], trace => [$::T, $::P],
         flags => $_->[1] } }
     ['00', '01'], ['01', '01'], ['02', '03'], ['03', '03']]



=== TEST 25: rule 9: new trace-ids are random, and the bit says so
--- exchanges eval
[map { {} } 1 .. 40]
--- check_spans eval
sub {
    my @spans = @_;
    my @differ;

    # each digit of 40 ids has more than one value, or it is not random
    for my $i (0 .. 31) {
        my %digits = map { substr($_->{trace_id}, $i, 1) => 1 } @spans;
        push @differ, $i if keys %digits < 5;
    }

    Test::More::is("@differ", '', 'digits of trace-ids that are not random');
}



=== TEST 26: rule 10: each request is the parent of what it sends out
--- exchanges eval
[map { { send => [$::VALID], trace => [$::T, $::P] } } 1 .. 20]
--- check_spans eval
sub {
    my %ids = map { $_->{span_id} => 1 } @_;

    Test::More::is(scalar keys %ids, 20, 'span-ids');
    Test::More::ok(!$ids{$::P}, 'and none is that of the parent');
}



=== TEST 27: rule 10: a hop that is off changes no byte
--- config
location /t {
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
location /on { trace internal on; trace user $arg_u; trace_routing x;
               trace_context user propagate header=x-u-traceparent; }
--- exchanges eval
[map { { send => $_, left => $_, spans => 0 } }
     [$::VALID],
     ["TraceParent: 00-$::T-$::P-01", "TRACESTATE: a=1"],
     ["Traceparent: \t00-$::T-$::P-01\t", "tracestate: a=1\t,,b=2"],
     ["traceparent: cc-$::T-$::P-ff-what"],
     ['traceparent: 00-' . uc($::T) . "-$::P-01"],
     ["tracestate: a=1", $::VALID, "tracestate: a=1", $::VALID],
     ['tracestate: a=1', 'traceparent: ', 'tracestate: '],
     ["traceparent: \x01\xff"],
     []]



=== TEST 28: rule 10: neither does one where a variable says no
--- config
location /t {
    set $no 0;
    set $none "";
    set $off off;
    trace internal $no;
    trace user $none;
    trace_routing x;
    trace_context user propagate header=x-u-traceparent;
    trace_trusted user all;
    set $seen $internal_traceparent$user_traceparent;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- exchanges eval
[map { { send => $_, left => $_, spans => 0 } }
     [$::VALID],
     ["TraceParent: \t00-$::T-$::P-00", "TRACESTATE: a=1"],
     ["X-U-TraceParent: cc-$::T-$::P-ff-what", 'x-u-tracestate: ,'],
     [$::VALID, "tracestate: b=2", $::VALID],
     []]



=== TEST 29: rule 11: with no valid traceparent, a new trace and no tracestate
--- exchanges eval
[map { { send => $_ } }
     [],
     ['tracestate: a=1'],
     ['tracestate: a=1', 'traceparent:'],
     ['traceparent: ', 'tracestate: a=1', 'tracestate: b=2'],
     ['tracestate: a=1', 'traceparent: invalid'],
     ['tracestate: ' . CORE::join ',', main::members(32)],
     [('tracestate: a=1') x 50]]



=== TEST 30: rule 12: a new worker does not repeat the sequence of the last
--- config
--- client eval
sub {
    my $nginx = Nginx->new(main => 'user root;',
        http => "trace_exporter internal {
                     endpoint $ENV{TEST_NGINX_OTLP};
                     interval 20ms;
                 }",
        server => 'location / { trace internal on; return 200 $pid; }',
    )->start;
    my %pids;

    for (1 .. 3) {
        my ($pid) = $nginx->workers;

        for (1 .. 5) {
            my ($status, $body) = $nginx->get('/');
            $pids{$body}++;
        }

        kill 'QUIT', $pid;
        $nginx->wait_for(sub {
            my @workers = $nginx->workers;
            @workers == 1 && $workers[0] != $pid;
        });
    }

    Test::More::is(CORE::join(' ', values %pids), '5 5 5',
        'three workers have answered');
    Test::More::ok(defined $nginx->quit, 'and the last leaves');
}
--- span_count: 15
--- check_spans eval
sub {
    my %ids = map { $_->{trace_id} => 1, $_->{span_id} => 1 } @_;

    Test::More::is(scalar @_, 15, 'spans');
    Test::More::is(scalar keys %ids, 30, 'all ids are different');
    Test::More::is(scalar(grep { /\A0+\z/ } keys %ids), 0, 'none is zero');
}



=== TEST 31: rule 13: a tracestate that is no good leaves the trace alone
--- exchanges eval
main::state_lost('invalid', '=', 'a', 'a=', '=1', 'A=1', "a=\x01", "\xff",
    'a=1,,B=2', 'a=1 b=2')



=== TEST 32: rule 14: several headers are one list, in order
--- exchanges eval
[map { { send => [$::VALID, map { "tracestate: $_" } @{$_->[0]}],
         trace => [$::T, $::P], state => $_->[1] } }
     [['a=1', 'b=2'], 'a=1,b=2'],
     [['b=2', 'a=1'], 'b=2,a=1'],
     [['a=1,b=2', 'c=3', 'd=4,e=5'], 'a=1,b=2,c=3,d=4,e=5'],
     [[main::members(32)], CORE::join ',', main::members(32)]]



=== TEST 33: rule 14: wherever they stand, and in whatever case
--- exchanges eval
[map { { send => $_, trace => [$::T, $::P], state => 'a=1,b=2' } }
     ['tracestate: a=1', $::VALID, 'tracestate: b=2'],
     ['Tracestate: a=1', 'TRACESTATE: b=2', $::VALID],
     [(map { "x-$_: $_" } 1 .. 30), 'tracestate: a=1',
      (map { "y-$_: $_" } 1 .. 30), $::VALID,
      (map { "z-$_: $_" } 1 .. 30), 'traceState: b=2']]



=== TEST 34: rule 14: empty headers and empty members are not sent on
--- exchanges eval
[map { { send => [$::VALID, map { "tracestate:$_" } @{$_->[0]}],
         trace => [$::T, $::P], state => $_->[1] } }
     [['']],
     [[' ']],
     [["\t"]],
     [[',', " , ,\t,"]],
     [['', 'a=1', ''], 'a=1'],
     [['a=1,'], 'a=1'],
     [[',a=1'], 'a=1'],
     [[',,a=1, ,b=2,,', '', "\t", 'c=3'], 'a=1,b=2,c=3'],
     [[map({ ($_, '') } main::members(32)), ('', ',', ' ') x 20],
      CORE::join ',', main::members(32)]]



=== TEST 35: rule 15: keys of Level 2
--- exchanges eval
main::state_kept('a=1', '0=1', '9z=1', 'a@b=1', 'a@=1', 'a_-*/@0=1',
    'fw529a3039@dt=FfAAAAA', '1a-2f@foo=bar', '1@2@3=x', 'a' x 256 . '=1')



=== TEST 36: rule 15: what is no key
--- exchanges eval
main::state_lost(map { ("$_=1", "a=1,$_=1", "$_=1,a=1") }
    'A', '@a', '_a', '-a', '*', '/', 'a.b', 'a b', 'a ', "a\t", 'a+', "\xe4",
    'a' x 257)



=== TEST 37: rule 15: values
--- exchanges eval
main::state_kept('a= 1', 'a=   x', 'a=x y  z', 'a=' . '1' x 256,
    'a=' . ' ' x 255 . '1', 'a=' . main::printable())



=== TEST 38: rule 15: what is no value
--- exchanges eval
main::state_lost(map { ("a=$_", "b=2,a=$_", "a=$_,b=2") }
    '', ' ', '=', '1=2', "1\x01", "\x7f", "\x80", "1\t1", '1' x 257)



=== TEST 39: rule 15: spaces and tabs around members are trimmed
--- exchanges eval
[map { { send => [$::VALID, "tracestate:$_->[0]"], trace => [$::T, $::P],
         state => $_->[1] } }
     [' a=1 , b=2 ', 'a=1,b=2'],
     ["\ta=1\t,\tb=2\t", 'a=1,b=2'],
     [" \t a=1 \t ,, \t b= 2 \t ", 'a=1,b= 2']]



=== TEST 40: rule 15: a key that is there twice costs the list
--- exchanges eval
[(map { @$_ } main::state_lost('a=1,a=1', 'a=1,a=2', 'a=1,b=2,a=3',
     'a=1' . ',' x 100 . 'a=2',
     CORE::join ',', main::members(31), 'k1=v1')),
 (map { { send => [$::VALID, map { "tracestate: $_" } @$_],
          trace => [$::T, $::P] } }
     ['a=1', 'a=1'], ['a=1,b=2', 'c=3', 'b=4'], [('a=1') x 50])]



=== TEST 41: rule 15: 32 members are a list, 33 are none
--- exchanges eval
[@{main::state_kept(CORE::join ',', main::members(32))},
 @{main::state_lost(CORE::join(',', main::members(33)),
                    CORE::join(',', main::members(200)))},
 (map { { send => [$::VALID, map { "tracestate: $_" } @$_],
          trace => [$::T, $::P] } }
     [main::members(33)], [main::members(100)],
     ['a=1', CORE::join ',', main::members(32)])]



=== TEST 42: rule 16: members are sent byte for byte
--- exchanges eval
main::state_kept('congo=t61rcWkgMzE,rojo=00f067aa0ba902b7',
    'a= !"#$%&\'()*+-./0~,b@c=\\\\,d=%2c%00', 'z=Z,y=Y,x=X',
    'ot=th:fd70a4;rv:00000000000000,es=s:0.5')



=== TEST 43: rule 17: 512 characters are sent on
--- exchanges eval
main::state_kept('a=' . 'x' x 254 . ',b=' . 'y' x 253,
    CORE::join ',', map { sprintf 'k%02d=%s', $_, 'v' x 11 } 1 .. 30)



=== TEST 44: rule 17: more are shortened by whole members, from the right
--- exchanges eval
my @long = map { sprintf 'k%02d=%s', $_, 'v' x 60 } 1 .. 32;

[{ send => [$::VALID, 'tracestate: ' . CORE::join ',', @long],
   trace => [$::T, $::P], state => CORE::join ',', @long[0 .. 6] },
 { send => [$::VALID, map { "tracestate: $_" } @long],
   trace => [$::T, $::P], state => CORE::join ',', @long[0 .. 6] }]



=== TEST 45: rule 17: members over 128 characters leave first
--- exchanges eval
my $big = 'big=' . 'x' x 125;                   # 129
my $limit = 'lim=' . 'x' x 124;                 # 128
my @small = map { sprintf 's%02d=%s', $_, 'v' x 26 } 1 .. 14;

[{ send => [$::VALID, 'tracestate: ' . CORE::join ',', $big, @small],
   trace => [$::T, $::P], state => CORE::join ',', @small },
 { send => [$::VALID, 'tracestate: ' . CORE::join ',', $limit, @small],
   trace => [$::T, $::P], state => CORE::join ',', $limit, @small[0 .. 11] },
 { send => [$::VALID, 'tracestate: ' . CORE::join ',',
            map { "k$_=" . 'x' x 250 } 1 .. 5],
   trace => [$::T, $::P],
   state => 'k1=' . 'x' x 250 . ',k2=' . 'x' x 250 }]



=== TEST 46: rule 17: so can all of them
--- exchanges eval
[{ send => [$::VALID, 'tracestate: ' . 'a' x 256 . '=' . 'x' x 256],
   trace => [$::T, $::P] }]



=== TEST 47: rule 18: a request's own data gets into no tracestate
--- exchanges eval
[{ send => ['Cookie: secret', 'User-Agent: secret', 'X-Secret: secret'] },
 { send => [$::VALID, 'Cookie: secret'], trace => [$::T, $::P] }]



=== TEST 48: the user pipeline is held to the same rules
--- pipeline: user
--- exchanges eval
[@{main::continued($::VALID, "Traceparent:\tcc-$::T-$::P-01-x\t")},
 @{main::restarted("00-$::T-$::P-01-x", "ff-$::T-$::P-01")},
 @{main::state_kept('a=1,b=2')},
 @{main::state_lost('a=1,a=2')},
 { send => [$::VALID, $::VALID] },
 { send => ["traceparent: 00-$::T-$::P-fe"], trace => [$::T, $::P],
   flags => '03' }]



=== TEST 49: ignore: a new trace, and the headers are left alone
--- config
location /t {
    trace internal on;
    trace_context internal ignore;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- exchanges eval
[map { { send => $_, left => $_ } }
     [],
     [$::VALID, 'tracestate: a=1'],
     ["TraceParent: \t00-$::T-$::P-01", 'TraceState: ,'],
     [$::VALID, $::VALID]]



=== TEST 50: extract: the trace goes on, and the headers are left alone
--- config
location /t {
    trace internal on;
    trace_context internal extract;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- exchanges eval
[{ left => [] },
 { send => [$::VALID, 'TraceState: a=1,,', 'tracestate: b=2'],
   trace => [$::T, $::P], state => 'a=1,b=2',
   left => [$::VALID, 'TraceState: a=1,,', 'tracestate: b=2'] },
 { send => [$::VALID, $::VALID], left => [$::VALID, $::VALID] }]



=== TEST 51: inject: a new trace, and its headers take the place of what came
--- config
location /t {
    trace internal on;
    trace_context internal inject;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- exchanges eval
[map { { send => $_ } }
     [], [$::VALID], [$::VALID, 'tracestate: a=1'], [$::VALID, $::VALID],
     ["TraceParent: 00-$::T-$::P-00"]]



=== TEST 52: another header is not believed by itself, but removed
--- config
location /t {
    trace internal on;
    trace_context internal propagate header=X-Op-TraceParent;
    proxy_set_header traceparent "";
    proxy_set_header tracestate "";
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- prefix: x-op-
--- exchanges eval
[map { { send => $_ } }
     [],
     ["x-op-$::VALID"],
     ["X-OP-TRACEPARENT: 00-$::T-$::P-01", 'X-Op-Tracestate: a=1'],
     ["x-op-$::VALID", "x-op-$::VALID", ('x-op-tracestate: a=1') x 2],
     ['x-op-tracestate: a=1'],
     [$::VALID, 'tracestate: a=1']]



=== TEST 53: it is removed also where nothing is recorded or sent
--- config
location /t {
    trace internal $http_x_no;
    trace_context internal extract header=x-op-traceparent;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- exchanges eval
[{ send => ["X-Op-$::VALID", 'x-op-tracestate: a=1', 'traceparent: as it is'],
   left => ['traceparent: as it is'], spans => 0 },
 { send => ["x-op-$::VALID", "x-op-$::VALID", 'X-No: yes'], left => [] }]



=== TEST 54: it is believed from whom the operator trusts
--- config
trace_context internal propagate header=x-op-traceparent;
location /t {
    trace internal on;
    trace_trusted internal 192.0.2.0/24 127.0.0.1;
    proxy_set_header traceparent "";
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- prefix: x-op-
--- exchanges eval
[{ send => ["X-Op-$::VALID", 'X-Op-TraceState: a=1'], trace => [$::T, $::P],
   state => 'a=1' },
 { send => ["traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-$::P-01",
            "x-op-$::VALID"], trace => [$::T, $::P] }]



=== TEST 55: from all
--- config
trace_context internal propagate header=x-op-traceparent;
location /t {
    trace internal on;
    trace_trusted internal all;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- prefix: x-op-
--- exchanges eval
[{ send => ["X-Op-$::VALID"], trace => [$::T, $::P] }]



=== TEST 56: and from nobody else, whatever its name
--- config
location /t {
    trace internal on;
    trace_trusted internal 192.0.2.0/24 ::1 unix:;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- exchanges eval
[map { { send => $_ } }
     [$::VALID, 'tracestate: a=1'], ["Traceparent: 00-$::T-$::P-01"],
     ['tracestate: a=1']]



=== TEST 57: unix: are the clients of Unix sockets
--- http
server {
    listen unix:$TEST_NGINX_DIR/trusted.sock;
    location /t {
        trace internal on;
        trace_trusted internal unix:;
        proxy_pass http://$TEST_NGINX_UPSTREAM:/;
    }
}
server {
    listen unix:$TEST_NGINX_DIR/untrusted.sock;
    location /t {
        trace internal on;
        trace_trusted internal 0.0.0.0/0 ::/0;
        proxy_pass http://$TEST_NGINX_UPSTREAM:/;
    }
}
--- config
--- exchanges eval
[{ to => "unix:$ENV{TEST_NGINX_DIR}/trusted.sock", send => [$::VALID],
   trace => [$::T, $::P] },
 { to => "unix:$ENV{TEST_NGINX_DIR}/untrusted.sock", send => [$::VALID] }]



=== TEST 58: who wrote the header counts, not whom realip puts there
--- config
set_real_ip_from 127.0.0.1;
real_ip_header X-Forwarded-For;
location /t {
    trace internal on;
    trace_trusted internal 127.0.0.1;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- exchanges eval
[{ send => [$::VALID, 'X-Forwarded-For: 192.0.2.1'], trace => [$::T, $::P] }]



=== TEST 59: nor can a client pass for somebody trusted by it
--- config
set_real_ip_from 127.0.0.1;
real_ip_header X-Forwarded-For;
location /t {
    trace internal on;
    trace_trusted internal 10.0.0.0/8 unix:;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- exchanges eval
[{ send => [$::VALID, 'X-Forwarded-For: 10.0.0.1'] },
 { send => [$::VALID, 'X-Forwarded-For: unix:'] }]



=== TEST 60: unless the operator says that it is
--- config
set_real_ip_from 127.0.0.1;
real_ip_header X-Forwarded-For;
location /t {
    trace internal on;
    trace_trusted internal 10.0.0.0/8 realip;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- exchanges eval
[{ send => [$::VALID, 'X-Forwarded-For: 10.0.0.1'], trace => [$::T, $::P] },
 { send => [$::VALID, 'X-Forwarded-For: 192.0.2.1'] },
 { send => [$::VALID] }]



=== TEST 61: who knows a secret is believed, from wherever
--- http
map $http_x_key $known { secret 1; zero 0; }
--- config
location /t {
    trace internal on;
    trace_trusted internal 192.0.2.0/24 if=$known;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- exchanges eval
[{ send => [$::VALID, 'X-Key: secret'], trace => [$::T, $::P] },
 { send => [$::VALID, 'X-Key: guess'] },
 { send => [$::VALID, 'X-Key: zero'] },
 { send => [$::VALID] }]



=== TEST 62: inherited as a whole
--- http
map $http_x_key $known { secret 1; }
trace_trusted internal if=$known;
--- config
trace internal on;
location /t/unix {
    trace_trusted internal unix:;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
location /t { proxy_pass http://$TEST_NGINX_UPSTREAM:/; }
--- exchanges eval
[{ send => [$::VALID, 'X-Key: secret'], trace => [$::T, $::P] },
 { send => [$::VALID] },
 { send => [$::VALID, 'X-Key: secret'], uri => '/t/unix' }]

# Which traces are recorded: by ratio, by the parent, by a rate, by a variable,
# and by any of these together; and what leaves in each case.

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use Test::More;

use Delivery;
use Hop;
use Upstream;

# ids that are the same in each run

sub trace_id { md5_hex("trace $_[0]") }
sub parent_id { substr md5_hex("span $_[0]"), 0, 16 }

sub traceparent {
    my ($n, $flags) = @_;

    return join '-', 'traceparent: 00', trace_id($n), parent_id($n), $flags;
}

# th, and whether a trace is picked by it

my %th = (1 => '0', 0.5 => '8', 0.25 => 'c', 0.1 => 'e666', 0.01 => 'fd70a',
          0.02 => 'fae14');

sub picks_trace {
    my ($ratio, $id) = @_;

    return $ratio if $ratio == 0 || $ratio == 1;
    return substr($id, -14) ge substr $th{$ratio} . '0' x 14, 0, 14;
}

# compares sets whose members are many

sub same {
    my ($got, $want, $name) = @_;
    my %got = map { $_ => 1 } @$got;
    my %want = map { $_ => 1 } @$want;
    my @more = grep { !$want{$_} } sort keys %got;
    my @less = grep { !$got{$_} } sort keys %want;

    ok(@more == 0 && @less == 0 && @$got == @$want,
        $name . ': ' . @$want)
        or diag 'got ' . @$got . "; not wanted: @{[splice @more, 0, 5]};"
            . " missing: @{[splice @less, 0, 5]}";
}


scene '100,000 traces of clients: a ratio picks exactly those that it should',
    sub
{
    my $hop = Hop->new($_[0], server => 'location / {
        trace internal ratio=0.1; return 204; }');
    my @n = 1 .. 100_000;

    $hop->ask(map { ["/?n=$_", traceparent($_, sprintf '%02x', $_ % 4)] } @n);

    my @spans = $hop->spans;
    my @picked = grep { picks_trace(0.1, trace_id($_)) } @n;

    same([map { $_->{attributes}{n} } @spans], \@picked, 'picked');
    cmp_ok(abs(@picked - 10_000), '<', 700, 'a tenth');
    is(scalar(grep { $_->{trace_state} ne 'ot=th:e666' } @spans), 0,
        'all have the threshold');
    is(scalar(grep { $_->{trace_id} ne trace_id($_->{attributes}{n}) }
              @spans), 0, 'all are in the trace that came');
};


scene '100,000 new traces: a ratio picks its share of them', sub {
    my $hop = Hop->new($_[0], server => 'location / {
        trace internal ratio=0.1; return 204; }');

    $hop->ask(map { ["/?n=$_"] } 1 .. 100_000);

    my @spans = $hop->spans;
    my @requests = $hop->requests;

    # 7 standard deviations, of 95: wrong once in 10^11 runs
    cmp_ok(abs(@spans - 10_000), '<', 665, @spans . ' of 100,000');
    same([map { $_->{trace_id} } @spans],
         [map { $_->[4] } grep { picks_trace(0.1, $_->[4]) } @requests],
         'picked by the trace-id');
    same([map { $_->[2] } grep { $_->[3] == 1 } @requests],
         [map { $_->{attributes}{n} } @spans], 'sampled is what is recorded');
    is(scalar(grep { $_->[3] eq '0' } @requests), 100_000 - @spans,
        'all others are not sampled');
};


scene 'hops in a row: equal ratios pick the same traces, a lower one some of'
    . ' them', sub
{
    my $dir = shift;
    my $next = sub {
        my ($name, $words, $next) = @_;

        return "upstream $name { server unix:$dir/$name.sock; keepalive 8; }
            server {
                listen unix:$dir/$name.sock;
                trace internal $words;
                trace_attribute internal hop $name;
                location / { proxy_pass http://$next; }
            }\n";
    };
    my $hop = Hop->new($dir, http => $next->('parent', 'parent', 'same')
        . $next->('same', 'ratio=0.1', 'lower')
        . $next->('lower', 'ratio=0.02', 'behind'),
        server => 'trace internal ratio=0.1; trace_attribute internal hop edge;
                   location / { proxy_pass http://parent; }');

    my @sent = map { $_->{sent} } $hop->ask(map { ["/?n=$_"] } 1 .. 10_000);
    my %of;

    push @{$of{$_->{attributes}{hop}}}, $_ for $hop->spans;

    my @ids = map { $_->[4] } $hop->requests;
    my @picked = grep { picks_trace(0.1, $_) } @ids;

    for (qw(edge parent same)) {
        same([map { $_->{trace_id} } @{$of{$_}}], \@picked, $_);
        is(scalar(grep { $_->{trace_state} ne 'ot=th:e666' } @{$of{$_}}), 0,
            "$_: the threshold");
    }

    same([map { $_->{trace_id} } @{$of{lower}}],
         [grep { picks_trace(0.02, $_) } @picked], 'lower');
    is(scalar(grep { $_->{trace_state} ne 'ot=th:fae14' } @{$of{lower}}), 0,
        'lower: its own threshold');

    my @parents = map { my %id = map { $_->{trace_id} => $_->{span_id} }
                        @{$of{$_}}; \%id } qw(edge parent same);
    my $orphans = 0;

    for (['parent', 0], ['same', 1], ['lower', 2]) {
        my ($name, $before) = @$_;
        $orphans += grep { $_->{parent_span_id}
                           ne $parents[$before]{$_->{trace_id}} } @{$of{$name}};
    }

    is($orphans, 0, 'each span is below that of the hop before');

    my $wrong = grep {
        my ($traceparent, $state) = @{$sent[$_]};
        my $id = $ids[$_];
        my ($flags, $th) = picks_trace(0.02, $id) ? ('03', 'ot=th:fae14')
            : picks_trace(0.1, $id) ? ('03', 'ot=th:e666') : ('02', '');

        $traceparent !~ /\A00-$id-[0-9a-f]{16}-$flags\z/ || $state ne $th;
    } 0 .. $#sent;

    is($wrong, 0, 'sampled or not, all have their trace-id at the last hop');
};


# The table: all combinations of words, with all that can come in, in each mode.
# Ratios of a half are decided by ids that are known: 4... is below, c... above.

my $STATE = 'a=1,ot=k:1;th:2';
my %LOW = (id => '0af7651916cd43dd' . '4' x 16, parent => 'b7ad6b7169203331');
my %HIGH = (id => '0af7651916cd43dd' . 'c' x 16, parent => 'b7ad6b7169203331');

my %inbound = (
    none => {},
    low => { %LOW, flags => '01' },
    high => { %HIGH, flags => '03' },
    'low unsampled' => { %LOW, flags => '02' },
    'high unsampled' => { %HIGH, flags => '00' },
    invalid => { %HIGH, flags => '1' },
    untrusted => { %HIGH, flags => '01', untrusted => 1 },
);

my @combinations = ({ words => 'on' }, { words => 'off' });

for my $parent ('', 'parent') {
    for my $ratio ('', 0, 0.5, 1) {
        for my $rate ('', 'plenty', 'spent') {
            for my $variable ('', 'no', 'yes') {
                my $words = join ' ', grep { length } $parent,
                    length $ratio ? "ratio=$ratio" : '',
                    $rate && ($rate eq 'spent' ? 'rate=1r/m'
                              : 'rate=10000r/s'), $variable && '$arg_v';

                push @combinations, { words => $words, parent => $parent,
                    ratio => $ratio, rate => $rate, variable => $variable }
                    if length $words;
            }
        }
    }
}

# What is expected of a request, as a hash; undef where chance decides.

sub expected {
    my ($words, $in, $mode) = @_;
    my $reads = $mode =~ /extract|propagate/;
    my $writes = $mode =~ /inject|propagate/;
    my $came = $in->{id} && !$in->{untrusted};
    my $believed = $came && $reads && length $in->{flags} == 2;
    my $sampled = $believed && $in->{flags} & 1 ? 1 : 0;
    my $as_came = $came ? ["00-$in->{id}-$in->{parent}-$in->{flags}", $STATE]
        : ['', ''];
    my %parent = $believed ? (parent_id => $in->{parent},
        parent_sampled => $sampled) : (parent_id => '', parent_sampled => '');
    my ($yes, $by) = (0, '');

    if ($words->{words} eq 'on' || ($words->{variable} // '') eq 'yes') {
        $yes = 1;

    } elsif ($words->{parent} && $believed) {
        ($yes, $by) = ($sampled, 'parent');

    } elsif (length($words->{ratio} // '')) {
        return if $words->{ratio} == 0.5 && !$believed;
        ($yes, $by) = (picks_trace($words->{ratio}, $in->{id} // ''), 'ratio');

    } elsif ($words->{rate}) {
        $yes = 1;
    }

    if ($words->{rate}) {
        $by = '';
        $yes = 0 if $words->{rate} eq 'spent';
    }

    my $nothing = $words->{words} eq 'off' || $words->{words} eq '$arg_v';

    if ($yes) {
        my $flags = sprintf '%02x', 1 | ($believed ? $in->{flags} & 2 : 2);
        my $state = state($believed, $by, $words->{ratio});

        $state = $STATE if $believed && $in->{flags} & 1
            && ($nothing || $words->{words} eq 'on');

        my $id = $believed ? $in->{id} : 'NEW';

        return { span => [$id, $parent{parent_id}, $state, $flags],
            sent => $writes ? ["00-$id-OWN-$flags", $state] : $as_came,
            own => { traceparent => "00-$id-OWN-$flags", trace_id => $id,
                     tracestate => $state, span_id => 'OWN', sampled => 1,
                     %parent } };
    }

    return { sent => $as_came, own => { tracestate => '', %parent,
             map { $_ => '' } qw(traceparent trace_id span_id sampled) } }
        if !$believed && $nothing;

    return { sent => $writes ? ['00-NEW-OWN-02', ''] : $as_came,
             own => { traceparent => '00-NEW-OWN-02', tracestate => '',
                      trace_id => 'NEW', span_id => 'OWN', sampled => 0,
                      %parent } }
        if !$believed;

    return { sent => $as_came, own => { traceparent => $as_came->[0],
             tracestate => $STATE, trace_id => $in->{id}, span_id => '',
             sampled => $sampled, %parent } };
}

# the tracestate of a yes

sub state {
    my ($believed, $by, $ratio) = @_;

    return $believed ? "ot=k:1;th:$th{$ratio},a=1" : "ot=th:$th{$ratio}"
        if $by eq 'ratio';
    return !$believed ? '' : $by eq 'parent' ? $STATE : 'ot=k:1,a=1';
}

# what came of it, with names for ids that nobody can know

sub seen {
    my ($answer, $span, $in) = @_;
    my ($own, $known) = ($answer->{own}, $in->{id} // '-');
    my $names = sub {
        my $text = shift // '';

        $text =~ s/$own->{span_id}/OWN/ if $own->{span_id};
        $text =~ s/$own->{trace_id}/NEW/
            if $own->{trace_id} && $own->{trace_id} ne $known;
        return $text;
    };
    my %seen = (sent => [map { $names->($_) } @{$answer->{sent}}],
        own => { map { $_ => $names->($own->{$_}) } keys %$own });

    # the id of the span is what was shown as ours
    $seen{span} = [map { $names->($_) } @$span{qw(trace_id parent_span_id)},
        $span->{trace_state}, sprintf '%02x', $span->{flags} & 0xff] if $span;
    $seen{span}[1] = "span-id $span->{span_id}"
        if $span && $span->{span_id} ne $own->{span_id};

    return \%seen;
}

scene 'all words with all that comes in, in all modes', sub {
    my @modes = qw(ignore extract inject propagate);
    my (@asked, $server);

    for my $c (0 .. $#combinations) {
        my $words = $combinations[$c];

        for my $mode (@modes) {
            $server .= "location /$c/$mode {
                trace internal $words->{words};
                trace_context internal $mode;
                proxy_pass http://behind; }\n";

            # the first one takes what a spent rate has, if it is a yes
            push @asked, map { [$words, $mode, $_, "/$c/$mode"] }
                'high', sort keys %inbound;
            $asked[-1 - keys %inbound][2] = '';
        }
    }

    my $hop = Hop->new($_[0], http => 'map $arg_u $trusted { "" 1; }
        trace_trusted internal if=$trusted;', server => $server);
    my @requests;

    for my $n (0 .. $#asked) {
        my ($words, $mode, $name, $uri) = @{$asked[$n]};
        my $in = $inbound{$name || 'high'};
        my $v = $name ? $words->{variable} // '' : 'yes';
        my @headers = $in->{id} ? ("tracestate: $STATE", 'traceparent: 00-'
            . join '-', @$in{qw(id parent flags)}) : ();

        push @requests, ["$uri?n=$n&v=" . ($v eq 'yes') . '&u='
            . ($in->{untrusted} // ''), @headers];
    }

    my @answers = $hop->ask(@requests);
    my %span = map { $_->{attributes}{n} => $_ } $hop->spans;
    my ($cases, $by_chance) = (0, 0);

    for my $n (0 .. $#asked) {
        my ($words, $mode, $name) = @{$asked[$n]};
        my $in = $inbound{$name || next};
        my $want = expected($words, $in, $mode);

        $by_chance++, next if !$want;
        is_deeply(seen($answers[$n], $span{$n}, $in), $want,
            "$words->{words}"
            . ($words->{rate} ? ", rate $words->{rate}" : '')
            . ($words->{variable} ? ", variable $words->{variable}" : '')
            . "; $mode; $name")
            or diag explain seen($answers[$n], $span{$n}, $in);
        $cases++;
    }

    is($cases + $by_chance, @combinations * @modes * keys %inbound,
        "$cases cases and $by_chance that are decided by chance");
};


# The sub-key th: what comes in, and what leaves of it. $A is as long as a value
# may be with ";th:0" behind it.

my $A = 'a' x 251;
my $B = 'b' x 232;
my $members = join ',', map { sprintf 'k%02d=1', $_ } 1 .. 31;
my @long = map { sprintf 'k%02d=%s', $_, 'x' x 28 } 1 .. 15;
my $long = join ',', @long;
my $large = join ',', @long[0 .. 9], 'c=' . 'x' x 20;

my @states = (
    # the digits
    (map { ["ratio=$_", '03', 'ot=rv:ffffffffffffff',
            "ot=rv:ffffffffffffff;th:$th{$_}"] } sort keys %th),
    (map { ["ratio=$_", '03', "ot=rv:$th{$_}" . '0' x (14 - length $th{$_}),
            "ot=rv:$th{$_}" . '0' x (14 - length $th{$_}) . ";th:$th{$_}"] }
        sort keys %th),

    # rv, for both traces, which ratio=0.5 would pick and not
    ['ratio=0.5', '01', 'ot=rv:80000000000000',
     'ot=rv:80000000000000;th:8'],
    ['ratio=0.5', '01', 'ot=rv:7fffffffffffff', undef],
    ['ratio=0.1', '00', 'a=1,ot=k:1;rv:e6660000000000;l:2',
     'ot=k:1;rv:e6660000000000;l:2;th:e666,a=1'],
    ['ratio=0.1', '00', 'a=1,ot=k:1;rv:e665ffffffffff;l:2', undef],
    (map { my $rv = $_;
           (['ratio=0.5', '01', "ot=rv:$rv", "ot=rv:$rv;th:8", 'high'],
            ['ratio=0.5', '01', "ot=rv:$rv", undef, 'low']) }
        '0', '0000000000000', '000000000000000', 'FFFFFFFFFFFFFF',
        'gggggggggggggg'),
    (map { (['ratio=0.5', '01', $_, "$_;th:8", 'high'],
            ['ratio=0.5', '01', $_, undef, 'low']) }
        'ot=RV:ffffffffffffff', 'ot=rv:ffffffffffffff;rv:ffffffffffffff'),
    ['ratio=0.5', '01', 'ott=rv:00000000000000',
     'ot=th:8,ott=rv:00000000000000'],

    # th as it came says nothing to a ratio, and is replaced
    (map { ['ratio=0.25', '00', $_, 'ot=th:c'] }
        'ot=th:0', 'ot=th:c', 'ot=th:ffffffffffffff', 'ot=th:x', 'ot=th:',
        'ot=th:0;th:0', 'ot=th:C', 'ot=th:000000000000000'),
    (map { ['ratio=0.25', '00', $_, undef, 'low'] } 'ot=th:0', 'ot=th:4'),

    # what is beside it
    ['ratio=1', '01', 'a=1,ot=p:8;th:c;r:62,b=2', 'ot=p:8;r:62;th:0,a=1,b=2'],
    ['ratio=1', '01', 'a=1 , b=2', 'ot=th:0,a=1,b=2'],
    ['ratio=1', '01', 'ot=;;k:1;;th:c;', 'ot=k:1;th:0'],
    ['ratio=1', '01', 'vendor@ot=th:c,ot@v=th:c,oth=th:c',
     'ot=th:0,vendor@ot=th:c,ot@v=th:c,oth=th:c'],

    # limits
    ['ratio=1', '01', "k00=1,$members", "ot=th:0,k00=1,"
     . substr $members, 0, -6],
    ['ratio=1', '01', "$members,ot=k:1", "ot=k:1;th:0,$members"],
    ['ratio=1', '01', "a=1,ot=$A", "ot=$A;th:0,a=1"],
    ['ratio=1', '01', "a=1,ot=${A}a", "a=1,ot=${A}a"],
    ['ratio=1', '01', "a=1,ot=$A;th:8", "ot=$A;th:0,a=1"],
    ['ratio=0.1', '01', "a=1,ot=rv:ffffffffffffff;$B;th:8",
     "ot=rv:ffffffffffffff;$B,a=1"],
    ['ratio=1', '01', "$long,b=2", "ot=th:0,$long,b=2"],
    ['ratio=1', '01', "$long,b=2345678901", "ot=th:0,$long"],
    ['ratio=1', '01', 'big=' . 'x' x 150 . ",$large", "ot=th:0,$large"],

    # a list that is no good goes away; the trace goes on
    (map { ['ratio=1', '01', $_, 'ot=th:0'] }
        'a=1,a=1', 'ot=th:8,ot=th:8', 'A=1', 'a', 'ot=',
        "k00=1,k32=1,$members"),

    # no th where no ratio has decided
    (map { my $words = $_;
           ([$words, '01', 'ot=th:8', ''],
            [$words, '01', 'a=1,ot=th:8,b=2', 'a=1,b=2'],
            [$words, '01', 'a=1,ot=k:1;th:8', 'ot=k:1,a=1'],
            [$words, '01', 'a=1,ot=k:1', 'a=1,ot=k:1'],
            [$words, '01', 'ot=th:x;th:y', ''],
            [$words, '01', "ot=$A;th:8", "ot=$A"]) }
        '$yes ratio=0.5', '$yes parent', 'rate=1000r/s',
        'parent rate=1000r/s', 'ratio=1 rate=1000r/s', 'rate=60000r/m $yes'),

    # the parent's stays, if its decision was that
    (map { my $words = $_;
           ([$words, '01', 'a=1,ot=k:1;th:8', 'a=1,ot=k:1;th:8', 'high'],
            [$words, '01', 'a=1,ot=k:1;th:8', 'ot=k:1,a=1', 'low'],
            [$words, '01', 'ot=th:8;rv:80000000000000',
             'ot=th:8;rv:80000000000000', 'low'],
            [$words, '01', 'ot=th:8;rv:7fffffffffffff',
             'ot=rv:7fffffffffffff', 'high'],
            [$words, '01', 'ot=th:0', 'ot=th:0', 'low'],
            [$words, '01', 'ot=th:x', '', 'low'],
            [$words, '00', 'a=1,ot=k:1;th:8', undef, 'high']) }
        'parent', 'parent ratio=1'),
);

scene 'th: written, replaced, removed and kept; rv: honoured', sub {
    my (%location, $server, @requests);

    for my $n (0 .. $#states) {
        my ($words, $flags, $state, undef, $which) = @{$states[$n]};
        my $in = ($which // '') eq 'low' ? \%LOW : \%HIGH;

        $location{$words} //= do {
            my $i = keys %location;
            $server .= "location /$i { trace internal $words;
                        proxy_pass http://behind; }\n";
            $i;
        };
        push @requests, ["/$location{$words}?n=$n", "tracestate: $state",
                         "traceparent: 00-$in->{id}-$in->{parent}-$flags"];
    }

    my $hop = Hop->new($_[0], http => 'map $host $yes { default 1; }',
        server => $server);
    my @sent = map { $_->{sent}[1] } $hop->ask(@requests);
    my %span = map { $_->{attributes}{n} => $_ } $hop->spans;

    for my $n (0 .. $#states) {
        my ($words, $flags, $state, $want, $which) = @{$states[$n]};
        my $name = "$words: " . ($which ? "$which, " : '') . $state;

        is($sent[$n], $want // $state, $name);
        is($span{$n} ? $span{$n}{trace_state} : undef, $want,
            "$name: recorded");
    }
};


scene 'an unsampled request leaves as it came, byte for byte', sub {
    my $dir = shift;
    my $upstream = Upstream->new(protocol => 'http',
        socket => "$dir/upstream.sock");
    my @words = ('off', 'parent', 'ratio=0', 'parent rate=100r/s',
        'parent ratio=1', 'ratio=0 rate=100r/s');
    my $hop = Hop->new($dir, server => join '', map {
        "location /$_ { trace internal $words[$_];
         proxy_pass http://unix:$dir/upstream.sock; }\n" } 0 .. $#words);
    my $id = "$HIGH{id}-$HIGH{parent}";

    for (
        ["traceparent: 00-$id-00"],
        ["traceparent: 00-$id-00", 'tracestate: a=1'],
        ["traceparent: 00-$id-02", 'tracestate: ot=th:8;rv:1,a=1'],
        ["TraceParent: 00-$id-fe", 'TRACESTATE: a=1'],
        ["traceparent: 01-$id-00-what-ever", 'tracestate: a=1'],
        ["traceparent: fe-$id-f0"],
        ["Traceparent: \t 00-$id-00 \t", "tracestate:a=1\t,\t b=2 ,c=3"],
        ["tracestate: ,a=1,, ,b=2,", "traceparent: 00-$id-00"],
        ["tracestate: a=1", "traceparent: 00-$id-00", 'tracestate: b=2'],
        ["traceparent: 00-$id-00", 'tracestate:', 'tracestate: b=2,'],
        ["traceparent: 00-$id-00", 'tracestate: a=1,a=1'],
        ["traceparent: 00-$id-00", 'tracestate: A=1'],
        ["traceparent: 00-$id-00", 'tracestate: a=' . 'x' x 600],
    ) {
        my @headers = @$_;

        for my $w (0 .. $#words) {
            $hop->ask(["/$w", @headers]);

            my @got = map { "$_->[0]: $_->[1]" } grep { $_->[0] =~ /\Atrace/i }
                map { @{$_->{headers}} } $upstream->requests(1);
            my @want = map { /\A([^:]*): *(.*?) *\z/; "$1: $2" } @headers;

            is_deeply(\@got, \@want, "$words[$w]: @headers");
        }
    }

    is(scalar $hop->spans, 0, 'nothing is recorded');
    $upstream->stop;
};


scene 'a $variable may choose by the trace-id', sub {
    my $hop = Hop->new($_[0], http => 'split_clients $internal_trace_id $ten {
            10% 1; * ""; }',
        server => 'location /alone { trace internal $ten;
                proxy_pass http://behind; }
            location /beside { trace internal ratio=0 $ten;
                proxy_pass http://behind; }
            location /return { trace internal $ten; return 204; }');
    my @uris = map { ("/alone?n=$_", "/beside?n=$_", "/return?n=$_") }
        1 .. 3000;
    my @answers = $hop->ask(map { [$_] } @uris);
    my %span = map { $_->{span_id} => 1 } $hop->spans;

    for my $where (qw(alone beside return)) {
        my @of = map { $answers[$_] } grep { $uris[$_] =~ /$where/ }
            0 .. $#uris;
        my @picked = grep { $span{$_->{own}{span_id} // ''} } @of;

        # 7 standard deviations, of 16
        cmp_ok(abs(@picked - 300), '<', 115, "$where: " . @picked);
    }
};


# Decided once. Of two locations, the first or the second decides, depending on
# how a request gets from one to the other.

my %ways = (
    'error_page' => ['deny all; error_page 403 = /S;', 0],
    'error_page to a named location' => ['deny all; error_page 403 = @S;', 0],
    'try_files' => ['try_files /nosuch /S?$args;', 0],
    'try_files to a named location' => ['try_files /nosuch @S;', 0],
    'error_page of a return' => ['error_page 404 = /S; return 404;', 1],
    'rewrite' => ['rewrite ^ /S last;', 1],
);

# 1 is a yes, 0 a no that stays, and an empty one is asked again

my @first = (['on', 1], ['ratio=1', 1], ['ratio=0', 0], ['parent', 0],
    ['$no ratio=0', 0], ['off', ''], ['$no', '']);
my @second = (['on', 1], ['ratio=1', 1], ['ratio=0', 0], ['off', ''],
    ['$no', '']);

scene 'a decision is made once; only that of "off" is made again', sub {
    my (@asked, $server);

    for my $way (sort keys %ways) {
        for my $first (@first) {
            for my $second (@second) {
                my $n = @asked;
                my ($line, $late) = @{$ways{$way}};
                my $decides = $late || $first->[1] eq '' ? $second : $first;
                my $content = "trace internal $second->[0];
                               proxy_pass http://behind;";

                $line =~ s/S\b/second$n/;
                push @asked, ["$first->[0], then $second->[0]: $way",
                              $decides->[1]];
                $server .= "location /first$n {
                                trace internal $first->[0]; $line }
                            location /second$n { $content }
                            location \@second$n { $content }\n";
            }
        }
    }

    my $hop = Hop->new($_[0], http => 'map $host $no { default ""; }',
        server => $server);
    my @answers = $hop->ask(map { ["/first$_?n=$_"] } 0 .. $#asked);
    my @spans = $hop->spans;
    my %span = map { $_->{attributes}{n} => $_ } @spans;

    is(scalar @spans, scalar(grep { $_->[1] eq '1' } @asked), 'spans');

    for my $n (0 .. $#asked) {
        my ($name, $want) = @{$asked[$n]};
        my ($own, $sent) = ($answers[$n]{own}, $answers[$n]{sent}[0]);

        is($own->{sampled}, $want, $name);
        is($span{$n} ? $span{$n}{span_id} : '',
            $want eq '1' ? $own->{span_id} : '', "$name: recorded");
        is($sent, $want eq '' ? '' : '00-' . join('-',
            @$own{qw(trace_id span_id)}, $want ? '03' : '02'), "$name: sent");
    }
};

scene 'a ratio decides the same through a redirect, whatever it is there', sub {
    my $hop = Hop->new($_[0], http => "server {
            listen unix:$_[0]/failing.sock; return 503; }",
        server => "location / {
            trace internal ratio=0.1;
            proxy_intercept_errors on;
            error_page 503 = /second;
            proxy_pass http://unix:$_[0]/failing.sock;
        }
        location /second { trace internal ratio=0.25; error_page 503 = /third;
            proxy_pass http://behind; }");
    my @n = 1 .. 2000;
    my @answers = $hop->ask(map { ["/?n=$_", traceparent($_, '00')] } @n);
    my @picked = grep { picks_trace(0.1, trace_id($_)) } @n;

    same([map { $_->{attributes}{n} } $hop->spans], \@picked, 'picked');
    same([grep { $answers[$_ - 1]{sent}[0] =~ /1\z/ } @n], \@picked, 'sent');
    same([grep { "traceparent: $answers[$_ - 1]{sent}[0]"
                 eq traceparent($_, '00') } @n],
         [grep { !picks_trace(0.1, trace_id($_)) } @n], 'sent as they came');
};


# All that a request can do: subrequests, retries, a redirect, and these again.

my $everything = 'auth_request /auth;
    mirror /mirror;
    proxy_next_upstream http_502;
    location /all {
        proxy_intercept_errors on;
        error_page 502 = @again;
        proxy_pass http://failing;
    }
    location @again { proxy_pass http://retried; }
    location = /auth { internal; proxy_pass http://side/auth?status=204; }
    location = /mirror { internal; proxy_pass http://side; }
    location = /plain { auth_request off; mirror off; return 204; }';

# its upstreams, which have two servers each

sub upstreams {
    my %servers = @_;

    return join '', map { my $name = $_; "upstream $name { "
        . (join ' ', map { "server unix:$_.sock max_fails=0;" }
           @{$servers{$name}}) . " keepalive 8; }\n" } sort keys %servers;
}

for (['on', '03'], ['ratio=0', '02'], ['parent', '02'], ['rate=1r/m', '03'],
     ['$no ratio=0', '02'])
{
    my ($words, $flags) = @$_;

    scene "$words: subrequests, retries and redirects are in one trace", sub {
        my $dir = shift;
        my $upstream = Upstream->new(protocol => 'http',
            socket => "$dir/upstream.sock");
        my $hop = Hop->new($dir, http => 'map $host $no { default ""; }'
            . upstreams(map { $_ => [("$dir/upstream") x 2] }
                        qw(failing retried side)),
            server => "trace internal $words; trace_upstream both;
                $everything");
        my ($answer) = $hop->ask(['/all?try=502,502,502,200']);

        # twice two tries, a subrequest, and another one that is tried twice
        my @requests = $upstream->requests(10);
        my @sent = map { $_->[1] } grep { $_->[0] =~ /\Atraceparent\z/i }
            map { @{$_->{headers}} } @requests;
        my @spans = $hop->spans;
        my $id = $answer->{own}{trace_id};

        is($answer->{status}, 200, 'status');
        is(scalar @requests, 10, 'requests upstream')
            or diag map { "$_->{line}\n" } @requests;
        is(scalar(grep { /\A00-$id-[0-9a-f]{16}-$flags\z/ } @sent),
            10, 'each has one header');

        if ($flags eq '02') {
            is(scalar(grep { $_ ne $sent[0] } @sent), 0, 'the same');
            is($answer->{own}{traceparent}, $sent[0], 'as the variable says');
            is(scalar @spans, 0, 'nothing is recorded');
            return;
        }

        my %span = map { $_->{span_id} => 1 }
            grep { $_->{kind} eq 'CLIENT' } @spans;

        is(scalar(grep { $span{substr $_, 36, 16} } @sent), 10,
            'of its own attempt');
        is(scalar keys %span, 10, 'which are all');
        is(scalar(grep { $_->{kind} eq 'SERVER' } @spans), 1, 'one request');
        $upstream->stop;
    };
}


# Rates. What a bucket would have given to these requests, by their times.

sub allowed {
    my ($rate, $burst, @times) = @_;
    my ($tokens, $last, $given) = ($burst, $times[0], 0);

    for (@times) {
        $tokens += $rate * ($_ - $last);
        $tokens = $burst if $tokens > $burst;
        $last = $_;

        if ($tokens >= 1) {
            $tokens--;
            $given++;
        }
    }

    return $given;
}

sub holds {
    my ($hop, $rate, $workers) = @_;
    my @spans = $hop->spans;
    my @requests = sort { $a->[1] <=> $b->[1] } $hop->requests;
    my @times = map { $_->[1] } @requests;
    my %workers = map { $_->[0] => 1 } @requests;
    my $seconds = $times[-1] - $times[0];
    my $given = grep { $_->[3] eq '1' } @requests;
    my $allowed = allowed($rate, $rate / 10, @times);

    note sprintf '%d of %d requests in %.2f s, by %d workers', $given,
        scalar @requests, $seconds, scalar keys %workers;

    cmp_ok(scalar keys %workers, '>=', $workers, 'all workers have served');
    cmp_ok(@requests, '>', 5 * $allowed, 'far more than it gives');
    cmp_ok($seconds, '>', 2, 'for some time');
    is(scalar @spans, $given, "recorded: $given");

    # times in the log are up to 1 ms old
    cmp_ok($given, '<=', $rate * ($seconds + 0.1 + 0.002) + 1,
        'no more than the rate and one burst');
    cmp_ok(abs($given - $allowed), '<', 0.05 * $allowed,
        "within 5 % of $allowed");
}

scene 'a rate holds over 4 workers', sub {
    my $hop = Hop->new($_[0], main => 'worker_processes 4;',
        server => 'location / { trace internal rate=300r/s; return 204; }');

    clients($hop->{nginx}, path => '/?n=%d', connections => 64, rate => 4000,
        requests => 12_000)->wait;
    holds($hop, 300, 4);
};

scene 'a rate holds over reloads', sub {
    my $hop = Hop->new($_[0], main => 'worker_processes 4;',
        server => 'location / { trace internal rate=300r/s; return 204; }');
    my $load = clients($hop->{nginx}, path => '/?n=%d', keepalive => 0,
        rate => 3000, requests => 9_000);

    for (1 .. 5) {
        sleep 0.4;
        $hop->{nginx}->reload;
    }

    is($load->wait->{failed}, 0, 'no request fails');
    holds($hop, 300, 5);
};

# the requests of |@uris|, whether they are sampled; again until they have come
# faster than 20 requests a second, after what the last time took is back

sub at_once {
    my ($hop, @uris) = @_;

    for (1 .. 20) {
        sleep 0.15;
        my $start = time;
        my @answers = $hop->ask(map { [$_] } @uris);
        my $seconds = time - $start;

        return join ' ', map { $_->{own}{sampled} } @answers
            if $seconds < 0.04;
        note "slow: $seconds s";
    }

    return 'too slow';
}

scene 'a request takes one of a rate, whatever it does', sub {
    my $dir = shift;
    my $hop = Hop->new($dir, http => upstreams(
            failing => [("$dir/failing") x 2], side => ["$dir/side"],
            retried => ["$dir/failing", "$dir/behind"])
        . join('', map { "server { listen unix:$dir/$_->[0].sock;
            trace internal off; return $_->[1]; }\n" }
            ['failing', 502], ['side', 204]),
        server => "trace internal rate=20r/s; $everything
            location /no { auth_request off; mirror off;
                trace internal ratio=0 rate=20r/s \$arg_v; return 204; }");

    is(at_once($hop, ('/plain') x 4), '1 1 0 0', 'two at once');
    is(at_once($hop, '/all', ('/plain') x 2), '1 1 0', 'one, and another');
    is(at_once($hop, '/plain', '/all', '/plain'), '1 1 0', 'the last one');
    is(at_once($hop, '/plain', '/plain', '/all'), '1 1 0', 'too late');
    is(at_once($hop, ('/no') x 3, ('/no?v=1') x 3), '0 0 0 1 1 0',
        'one that is not sampled anyhow takes none');
};

scene 'two directives have two rates; one that is inherited is shared', sub {
    my $hop = Hop->new($_[0], http => 'trace internal rate=1r/m;
        server { listen unix:' . $_[0] . '/other.sock;
                 location / { proxy_pass http://behind; } }',
        server => 'location /a { return 204; } location /b { return 204; }
            location /c { trace internal rate=1r/m; return 204;
                location /c/d { return 204; }
                location /c/e { trace internal rate=1r/m; return 204; } }
            location /other { trace internal off;
                proxy_pass http://unix:' . $_[0] . '/other.sock; }');
    my @answers = $hop->ask(map { ["/$_"] }
        qw(a a b c a c/d c/d c/e c/e other));

    is(join(' ', map { $_->{own}{sampled} } @answers[0 .. 8]),
        '1 0 0 1 0 0 0 1 0', 'sampled');
    like($answers[9]{sent}[0], qr/-02\z/, 'shared with another server');
};

scene 'rates a minute', sub {
    my $hop = Hop->new($_[0], server => '
        location /60 { trace internal rate=60r/m; return 204; }
        location /30 { trace internal rate=30r/m; return 204; }
        location /1200 { trace internal rate=1200r/m; return 204; }');
    my $ask = sub { join ' ', map { $_->{own}{sampled} }
                    $hop->ask(map { ["/$_"] } @_) };

    is($ask->(60, 60, 30, 30), '1 0 1 0', 'one each');
    sleep 1.1;
    is($ask->(60, 60, 30, 30), '1 0 0 0', 'a second later');
    is(at_once($hop, ('/1200') x 4), '1 1 0 0', 'a tenth of a second at once');
};

done_testing();

package Events;

# What is announced of spans while they are open: records of span events, drawn
# as text, as in
#
#   --- events
#   both:
#   open SERVER GET /t
#     open INTERNAL work
#     name work -> other work
#     attributes other work a=1 b=text
#     close other work OK
#     open CLIENT GET
#   return 200
#     close GET ERROR error=reset
#   dropped 3
#   close GET /t
#
# Lines are in the order of the records; one is indented below that of its
# parent. A span is told by the name that it has by then; a close without more
# is UNSET. "internal:", "user:" or "both:" says whose what follows is; without
# one it is internal. What is announced of several requests follows each other,
# in the order in which they began.
#
# Beside that, of all records that come:
#
#   - numbers of a request begin with 0 and have no holes, but for those that
#     span.dropped tells of
#   - each span is opened once and closed once, children before the request
#   - each record has what its event is to have, and nothing else
#   - times are in order, but for what is told later, as a user's request is
#   - ids, names, parents, kinds, status, tenants, resources and times are those
#     of the finished spans, of which each was announced
#
# A record is a hash as "traceparent receive --json" has it.
#
#   Events::parse($text); Events::count($parsed, 'open')
#   Events::check($parsed, \@records, \@spans, $name)
#   Events::requests(@records)          those of each request and pipeline, as
#                                       references, in the order of their start
#   Events::complaints(\@records)       what is wrong with those of one request
#   Events::decode($body)               records of an export request, without
#                                       resource, scope and headers

use strict;
use warnings;

use JSON::PP ();
use JSON::XS;
use Receiver;
use Test::More ();
use Tree;

my @COMMON = qw(span.pipeline span.request_id span.sequence);
my %ATTRIBUTES = (
    'span.open' => [qw(span.kind span.name span.parent_id)],
    'span.update_name' => [qw(span.name)],
    'span.return' => [qw(http.response.status_code)],
    'span.close' => [qw(error.type span.status)],
    'span.dropped' => [qw(span.dropped_count)],
);
my %OPTIONAL = map { $_ => 1 } qw(span.parent_id error.type
    http.response.status_code);
my %NUMBER = map { $_ => 1 } qw(span.sequence span.dropped_count
    http.response.status_code);

# spans' names are cut there
my $NAME_MAX = 64;

# a second, in which something happens that is told by two clocks
my $TIME = 1_000_000_000;

# lines by pipeline

sub parse {
    my $text = shift;
    my %lines = (internal => [], user => []);
    my @heads = 'internal';

    for my $line (grep { /\S/ } split /\n/, $text) {
        if ($line =~ /\A(internal|user|both):\s*\z/) {
            @heads = $1 eq 'both' ? qw(internal user) : $1;
            next;
        }

        $line =~ s/\s+\z//;
        push @{$lines{$_}}, $line for @heads;
    }

    return \%lines;
}

sub count {
    my ($lines, $what) = @_;

    return scalar grep { !defined $what || /\A *$what / } map { @$_ }
        values %$lines;
}

sub requests {
    my (%of, @requests);

    for my $record (@_) {
        my $key = join ' ', map { $record->{attributes}{"span.$_"} // '' }
            qw(pipeline request_id);

        push @requests, $of{$key} = [] if !$of{$key};
        push @{$of{$key}}, $record;
    }

    return @requests;
}

sub pipeline { $_[0]{attributes}{'span.pipeline'} // 'no pipeline' }
sub event { $_[0]{event_name} =~ s/\Aspan\.//r }

# one with the records of one request as lines

sub draw {
    my (%depth, %name, @lines);

    for my $record (@_) {
        my ($id, %attributes) = ($record->{span_id}, %{$record->{attributes}});
        my ($event, $what) = (event($record), $name{$id} // '?');

        if ($event eq 'open') {
            my $parent = $attributes{'span.parent_id'} // '';

            $depth{$id} = exists $depth{$parent} ? $depth{$parent} + 1 : 0;
            $name{$id} = $attributes{'span.name'};
            $what = "$attributes{'span.kind'} $name{$id}";

        } elsif ($event eq 'update_name') {
            $event = 'name';
            $name{$id} = $attributes{'span.name'};
            $what .= " -> $name{$id}";

        } elsif ($event eq 'attributes') {
            my $set = without(\%attributes, @COMMON);
            $what .= join '', map { " $_=" . value($set->{$_}) }
                sort keys %$set;

        } elsif ($event eq 'return') {
            $what = $attributes{'http.response.status_code'} // '?';

        } elsif ($event eq 'close') {
            my ($status, $error) = @attributes{qw(span.status error.type)};

            $what .= " $status" if $status ne 'UNSET';
            $what .= " error=$error" if defined $error;

        } elsif ($event eq 'dropped') {
            $what = $attributes{'span.dropped_count'};
        }

        push @lines, '  ' x ($depth{$id} // 0) . "$event $what";
    }

    return @lines;
}

sub without {
    my ($hash, @keys) = @_;
    my %without = %$hash;

    delete @without{@keys};
    return \%without;
}

sub value {
    my $value = shift;

    return JSON::PP::is_bool($value) ? ($value ? 'true' : 'false') : $value;
}

# what is wrong with the records of one request. |$open|: it may go on

sub complaints {
    my ($records, $open) = @_;
    my ($next, $time, $lost, %state, @complaints) = (0, 0, 0);
    my $request_id = $records->[0]{attributes}{'span.request_id'} // '';

    for my $record (@$records) {
        my ($id, %attributes) = ($record->{span_id}, %{$record->{attributes}});
        my $event = event($record);
        my $sequence = $attributes{'span.sequence'} // -1;
        my $state = $state{$id} // '';
        my $dropped = $attributes{'span.dropped_count'} // 0;
        my @of = parts($record);

        push @of, "follows $next" if $sequence != $next + $dropped;
        push @of, 'is of another trace'
            if $record->{trace_id} ne $records->[0]{trace_id};
        push @of, 'is earlier than what is before it'
            if $record->{time} < $time && $event ne 'open'
                && pipeline($record) eq 'internal';
        push @of, 'is behind the end of its request'
            if ($state{$request_id} // '') eq 'closed';
        push @of, 'is no event of a request'
            if $event =~ /\A(return|dropped)\z/ && $id ne $request_id;
        $lost += $dropped;

        if ($event eq 'open') {
            my $parent = $attributes{'span.parent_id'} // '';
            my $kind = $attributes{'span.kind'};

            push @of, "is opened again, it is $state" if $state;
            push @of, 'has an unknown parent'
                if $id ne $request_id && !$state{$parent} && !$lost;
            push @of, "is a $kind"
                if ($kind eq 'SERVER') != ($id eq $request_id);
            $state{$id} = 'open';

        } else {
            push @of, 'is of a span that is ' . ($state || 'not open')
                if $state ne 'open' && $event ne 'dropped';
            $state{$id} = 'closed' if $event eq 'close';
        }

        push @of, 'leaves others open' if $event eq 'close'
            && $id eq $request_id && grep { $_ eq 'open' } values %state;
        push @of, 'returns again' if $event eq 'return' && $state{return}++;
        push @complaints, map { "$sequence $event of $id: $_" } @of;
        $next = $sequence + 1;
        $time = $record->{time} if $record->{time} > $time;
    }

    delete $state{return};
    push @complaints, map { "$_ is not closed" }
        grep { !$open && $state{$_} ne 'closed' } sort keys %state;

    return map { "request $request_id: $_" } @complaints;
}

# what is wrong with the parts of one

sub parts {
    my $record = shift;
    my %attributes = %{$record->{attributes}};
    my @expected = @{$ATTRIBUTES{$record->{event_name}} // []};
    my %known = map { $_ => 1 } @COMMON, @expected;
    my @complaints;

    push @complaints, map { "has no $_" }
        grep { !$OPTIONAL{$_} && !defined $attributes{$_} } sort keys %known;

    if ($record->{event_name} eq 'span.attributes') {
        push @complaints, 'has no attributes' if keys %attributes <= @COMMON;
    } else {
        push @complaints, map { "has $_" } grep { !$known{$_} }
            sort keys %attributes;
        push @complaints, 'is an unknown event' if !@expected;
    }

    # it is a number if it is encoded as one
    for my $name (grep { defined $attributes{$_} } sort keys %known) {
        my $value = $attributes{$name};
        my $number = encode_json([$value]) !~ /"/;

        push @complaints, "has a $name of another type"
            if $number != ($NUMBER{$name} // 0);
        push @complaints, "has the $name $value"
            if $name =~ /_id\z/ && $value !~ /\A(?!0+\z)[0-9a-f]{16}\z/
                || $name eq 'span.name' && length $value > $NAME_MAX
                || $name eq 'span.kind'
                    && $value !~ /\A(SERVER|CLIENT|INTERNAL)\z/
                || $name eq 'span.status' && $value !~ /\A(UNSET|OK|ERROR)\z/
                || $name eq 'span.pipeline' && $value !~ /\A(internal|user)\z/
                || $name eq 'span.dropped_count' && $value < 1;
    }

    push @complaints, "has the flags $record->{flags}"
        if !($record->{flags} & 1);
    push @complaints, "has the severity $record->{severity}"
        if $record->{severity} != 9;
    push @complaints, 'has a body' if defined $record->{body};
    push @complaints, 'was observed at another time'
        if $record->{time} ne $record->{observed_time};

    return @complaints;
}

# what of the finished spans is not as it was announced

sub span_complaints {
    my ($records, $spans) = @_;
    my (%of, @complaints);

    push @{$of{$_->{span_id}}}, $_ for @$records;

    for my $span (@$spans) {
        my @own = @{delete $of{$span->{span_id}} // []};
        my @of = @own ? announced($span, @own) : 'was not announced';

        push @complaints, map { "$span->{kind} $span->{name}: $_" } @of;
    }

    push @complaints, map { "$_: was announced, and has no span" }
        sort keys %of;

    return @complaints;
}

sub announced {
    my ($span, @records) = @_;
    my ($open, $close) = @records[0, -1];
    my ($name) = map { $_->{attributes}{'span.name'} }
        grep { exists $_->{attributes}{'span.name'} } reverse @records;
    my ($return) = grep { $_->{event_name} eq 'span.return' } @records;
    my ($start, $end) = @$span{qw(start_time_unix_nano end_time_unix_nano)};
    my %pairs = (
        name => [$name, cut($span->{name})],
        kind => [$open->{attributes}{'span.kind'}, $span->{kind}],
        parent => [$open->{attributes}{'span.parent_id'} // '',
                   $span->{parent_span_id}],
        status => [$close->{attributes}{'span.status'}, $span->{status}{code}],
        error => [map { $_->{attributes}{'error.type'} // '' } $close, $span],
        returned => $return ? [map {
            $_->{attributes}{'http.response.status_code'} // ''
                } $return, $span] : ['', ''],
        trace => [$open->{trace_id}, $span->{trace_id}],
        flags => [map { $_->{flags} & 0xff } $open, $span],
        tenant => [map { $_->{headers}{'x-tenant'} // '' } $open, $span],
        pipeline => [pipeline($open), Tree::pipeline($span)],
        resource => [map { encode($_->{resource}) } $open, $span],
        scope => [map { encode($_->{scope}) } $open, $span],
    );
    # subrequests' are in the finished span alone
    my @set = map { $_->{attributes} }
        grep { $_->{event_name} eq 'span.attributes' } @records;
    $pairs{attributes} = [map { encode($_) }
        without({ map { %$_ } @set }, @COMMON), $span->{attributes}]
        if $span->{kind} eq 'INTERNAL' && $span->{name} !~ /\Asubrequest\b/;

    my @complaints = map { "$_ is $pairs{$_}[1], announced as $pairs{$_}[0]" }
        grep { $pairs{$_}[0] ne $pairs{$_}[1] } sort keys %pairs;

    push @complaints, 'is not open when it is announced'
        if $open->{time} < $start
            || $open->{time} > $end + $TIME;
    push @complaints, 'is not closed at its end'
        if abs($close->{time} - $end) > $TIME;

    return @complaints;
}

sub encode { return JSON::XS->new->canonical->encode($_[0]) }

# at the start of a character

sub cut {
    my $name = shift;
    my $bytes = $name;

    utf8::encode($bytes);
    chop $name, utf8::encode($bytes = $name) while length $bytes > $NAME_MAX;

    return $name;
}

sub check {
    my ($lines, $records, $spans, $name) = @_;
    my @requests = requests(@$records);

    for my $pipeline (qw(internal user)) {
        my @got = map { draw(@$_) }
            grep { pipeline($_->[0]) eq $pipeline } @requests;

        Test::More::is(join("\n", @got), join("\n", @{$lines->{$pipeline}}),
            "$name - $pipeline events");
    }

    my %announced = map { ($_->{trace_id} . pipeline($_) => 1) } @$records;
    my @complaints = ((map { complaints($_) } @requests),
        span_complaints($records, [grep {
            $announced{$_->{trace_id} . Tree::pipeline($_)} } @$spans]));

    Test::More::is(join("\n", @complaints), '', "$name - events are in order");
}

# ExportLogsServiceRequest 1 -> ResourceLogs 2 -> ScopeLogs 2 -> LogRecord

sub decode {
    my $body = shift;

    return map { record($_) } map { Receiver::fields($_, 2) }
        map { Receiver::fields($_, 2) } Receiver::fields($body, 1);
}

sub record {
    my %fields;

    push @{$fields{$_->[0]}}, $_->[1] for Receiver::message(shift);

    return {
        time => $fields{1}[0], observed_time => $fields{11}[0],
        severity => $fields{2}[0], body => $fields{5}[0],
        flags => $fields{8}[0], trace_id => unpack('H*', $fields{9}[0]),
        span_id => unpack('H*', $fields{10}[0]), event_name => $fields{12}[0],
        attributes => { map { attribute($_) } @{$fields{6}} },
    };
}

# KeyValue: key 1, value 2 -> AnyValue: string 1, bool 2, int 3, double 4

sub attribute {
    my ($key, $value) = map { $_->[1] } Receiver::message(shift);
    my ($any) = Receiver::message($value);
    my ($type, $of) = @$any;

    return $key => $type == 2 ? ($of ? JSON::PP::true : JSON::PP::false)
        : $type == 3 ? unpack('q', pack 'Q', $of)
        : $type == 4 ? unpack('d', pack 'Q', $of) : $of;
}

1;

package Callgrind;

# Reads what callgrind has counted.

use strict;
use warnings;

use Exporter 'import';

our @EXPORT_OK = qw(counts thousands);

# Of the file of a dump: what was counted in |all|, what of it in each function
# by its |self|, and what |with| all that it calls, which is right for functions
# that are not recursive. Nothing if the file is not there or not yet whole.

sub counts {
    my $file = shift;
    my ($function, $called, %name, %self, %with);

    open my $in, '<', $file or return;
    my @lines = <$in>;

    return if !@lines || $lines[-1] !~ /^totals: (\d+)$/;
    my $all = $1;

    for (@lines) {
        if (/^(c?)fn=\((\d+)\)(?: (.*?)(?:\.lto_priv\.\d+)?)?$/) {
            $name{$2} = $3 if defined $3;
            ($1 ? $called : $function) = $name{$2};

        } elsif (/^[-+*\d]\S* (\d+)$/) {
            # behind "cfn=" and "calls=", the cost of these calls
            if (defined $called) {
                $with{$called} += $1;
                undef $called;
            } else {
                $self{$function} += $1;
            }
        }
    }

    return { all => $all, self => \%self, with => \%with };
}

sub thousands {
    my $number = sprintf '%.0f', $_[0];

    $number =~ s/^-0$/0/;
    1 while $number =~ s/^(-?\d+)(\d{3})/$1,$2/;

    return $number;
}

1;

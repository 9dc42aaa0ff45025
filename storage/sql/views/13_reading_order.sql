-- In which order do people read methods and positions of the subject, if not by the alphabet?
-- storage.schema writes the lists in: methods as catalog/methods.py has them, the baseline first, then the
-- editors of catalog/editors.py.
create macro method_order(method) as nullif(list_position([$methods], method), 0);

create macro position_order(subject_position) as
    nullif(list_position([$positions], subject_position), 0);

comment on macro method_order is
    'Place of a method or editor among all: rome, the baseline, is 1. For order by; NULL = no method, such as none.';
comment on macro position_order is
    'Place of a position of the subject: first_token is 1, first_several 2, inside 3. For order by.';

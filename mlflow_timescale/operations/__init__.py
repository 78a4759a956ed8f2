"""Operations on a whole database: adopt, import, pack, check, reproduce."""
